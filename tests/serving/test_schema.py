"""Requests generated from the OpenAPI description: no internal error, and every answer as it is described."""

from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gem_lightning.serving.api import build_app
from helpers_serving import DICOM, serving

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
CASES = 75  # of each route and kind; more than 1,000 in all


@pytest.fixture(scope="module")
def schema(gem_small):
    with serving(build_app(gem_small, max_new_tokens=4)) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


@pytest.mark.slow
def test_every_route(schema):
    statuses = Counter()
    for found in schema.get_all_operations():
        operation = found.ok()
        kinds = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        for kind in kinds if operation.body else kinds[:1]:  # without a body nothing can be wrong
            send(operation, kind, statuses)
    assert sum(statuses.values()) >= 1000, statuses
    assert statuses[200] > 50, statuses
    assert statuses[422] > 500, statuses


def send(operation, kind, statuses):
    """Send generated requests; every fourth one with fields for files holds an ECG in them."""

    @seed(1)
    @settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=kind))
    def run(case):
        number = sum(statuses.values())
        if number % 4 == 0 and isinstance(case.body, dict):
            for field in {"files", "first", "second"} & case.body.keys():
                case.body[field] = [DICOM.read_bytes()]
        answer = case.call(timeout=60)
        statuses[answer.status_code] += 1
        case.validate_response(answer, checks=list(CHECKS))

    run()
