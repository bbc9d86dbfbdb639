"""The MCP server with the protocol's own client: in process, over standard streams and over HTTP."""

import asyncio
import base64
import io
import json
import os
import socket
import sys

import numpy as np
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from PIL import Image

import gem_lightning as gl
from gem_lightning.cli import main
from gem_lightning.ecg import LEADS, EcgRecord, simulate, write_ecg, write_wfdb
from gem_lightning.serving.mcp import build_server


@pytest.fixture
def root(tmp_path):
    """An allowed folder with recordings, next to one that is not."""
    inside, outside = tmp_path / "allowed", tmp_path / "secret"
    (inside / "deep").mkdir(parents=True)
    outside.mkdir()
    write_wfdb(simulate("rbbb", seed=3).record, inside / "a")
    write_ecg(simulate("sinus", seed=1).record, inside / "deep" / "b.dcm")
    write_ecg(EcgRecord(np.zeros((12, 5000), np.float32), 500, LEADS), inside / "flat.dcm")
    write_wfdb(simulate("sinus", seed=2).record, outside / "s")
    return inside


def calls(server, *requests):
    """The answers to some calls of tools, over one connection."""

    async def ask():
        async with Client(server) as client:
            return [await client.call_tool(name, arguments) for name, arguments in requests]

    return asyncio.run(ask())


def answer(server, name, **arguments):
    """The content of one answer that is no error."""
    (found,) = calls(server, (name, arguments))
    assert not found.is_error, found.content
    assert json.loads(found.content[0].text) == found.structured_content  # for clients that read text alone
    return found.structured_content


def refusal(server, name, **arguments):
    """The sentence of one answer that is an error."""
    (found,) = calls(server, (name, arguments))
    assert found.is_error
    return found.content[0].text


def test_every_tool_and_argument_is_described(root):
    async def listed():
        async with Client(build_server([root])) as client:
            assert "verify" in client.instructions
            return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in asyncio.run(listed())}
    assert set(tools) == {
        "list_recordings",
        "measure",
        "findings",
        "render",
        "digitize",
        "verify",
        "compose",
        "interpret",
    }
    for tool in tools.values():
        assert len(tool.description) > 40
        assert tool.annotations.read_only_hint
        for name, schema in tool.input_schema["properties"].items():
            assert "description" in schema, (tool.name, name)
    assert tools["verify"].input_schema["required"] == ["file", "text"]


def test_an_agent_reads_an_ecg_and_checks_its_sentences(root):
    server = build_server([root])
    assert answer(server, "list_recordings") == {"recordings": ["a.hea", "deep/b.dcm", "flat.dcm"], "total": 3}
    assert answer(server, "list_recordings", folder="deep")["recordings"] == ["deep/b.dcm"]
    measured = answer(server, "measure", file="a.hea")
    assert measured["qrs_ms"] == pytest.approx(gl.measure(gl.read_ecg(root / "a.hea")).qrs_ms, abs=1e-3)
    assert not {"beats", "leads"} & set(measured)
    assert len(answer(server, "measure", file="a", detail="beats")["beats"]) > 5
    found = answer(server, "findings", file="a.hea")
    assert "rbbb" in {finding["code"] for finding in found["findings"]}
    assert (found["file"], found["refused"], found["version"]) == ("a.hea", None, gl.__version__)
    text = "Right bundle branch block. The QRS duration is 60 ms. There is endocarditis."
    judged = answer(server, "verify", file="a.hea", text=text)
    assert [verdict["verdict"] for verdict in judged["verdicts"]] == ["supported", "contradicted"]
    assert "endocarditis" in judged["unread_clinical"][0]
    composed = answer(server, "compose", file="a.hea", style="brief")["text"]
    verdicts = answer(server, "verify", file="a.hea", text=composed)["verdicts"]
    assert {verdict["verdict"] for verdict in verdicts} == {"supported"}


def test_render_is_an_image(root):
    (found,) = calls(build_server([root]), ("render", {"file": "a.hea", "layout": "6x2", "dpi": 60}))
    (content,) = found.content
    assert (content.type, content.mime_type) == ("image", "image/png")
    assert Image.open(io.BytesIO(base64.b64decode(content.data))).size == (660, 510)


@pytest.mark.slow
def test_digitize_shows_what_was_read(root):
    gl.EcgRenderer().save(gl.read_ecg(root / "a.hea"), root / "photo.png")
    (found,) = calls(build_server([root]), ("digitize", {"file": "photo.png"}))
    assert found.structured_content["refused"] is None or found.structured_content["quality"]
    assert found.structured_content["layout"] == "3x4+1"
    assert found.content[1].mime_type == "image/png"


def test_interpret_with_a_model(root, tiny_gem, tmp_path):
    tiny_gem.save_pretrained(tmp_path / "model")
    found = answer(build_server([root], str(tmp_path / "model")), "interpret", file="deep/b.dcm", verify="revise")
    assert found["file"] == "deep/b.dcm"
    assert found["claims"]["text"] == found["text"]
    assert "features" not in found


def test_an_unusable_recording_is_refused_by_every_tool(root):
    server = build_server([root], model="no model is loaded")
    for name, arguments in (
        ("measure", {}),
        ("findings", {}),
        ("verify", {"text": "Sinus rhythm."}),
        ("compose", {}),
        ("interpret", {}),
    ):
        found = answer(server, name, file="flat.dcm", **arguments)
        assert "flat: " in found["refused"]
        assert found["findings"] == []
        assert not found.get("verdicts")
        assert name not in ("compose", "interpret") or found["text"] == ""


def test_nothing_outside_the_folders_is_read(root):
    outside = root.parent / "secret"
    (root / "link.hea").symlink_to(outside / "s.hea")  # a link out
    (root / "linked").symlink_to(outside)  # a folder that is a link out
    (root / "half.hea").write_text((outside / "s.hea").read_text().replace("s.dat", "half.dat"))
    (root / "half.dat").symlink_to(outside / "s.dat")  # a companion that is a link out
    (root / "points.hea").write_text((outside / "s.hea").read_text().replace("s.dat", "../secret/s.dat"))
    server = build_server([root])
    names = (
        "../secret/s.hea",
        "deep/../../secret/s",
        str(outside / "s.hea"),
        "link.hea",
        "link",
        "linked/s.hea",
        "/etc/passwd",
        "a.hea\0",
        "",
        "x" * 5000,
    )
    for name in names:
        said = refusal(server, "measure", file=name)
        # the same sentence as for a name that does not exist
        assert said.startswith("expected a recording of the allowed folders, got "), said
    assert "got a link to another folder" in refusal(server, "measure", file="half.hea")
    assert "a header may not point elsewhere" in refusal(server, "measure", file="points.hea")
    assert "expected a folder" in refusal(server, "list_recordings", folder="../secret")
    assert "expected a folder" in refusal(server, "list_recordings", folder="linked")
    assert "link.hea" not in answer(server, "list_recordings")["recordings"]


def test_links_within_the_folders_and_several_folders(root):
    (root / "again.dcm").symlink_to(root / "deep" / "b.dcm")
    server = build_server([root, root.parent / "secret"])
    assert answer(server, "measure", file="again.dcm")["qrs_ms"]
    listed = answer(server, "list_recordings")["recordings"]
    assert str(root.parent / "secret" / "s.hea") in listed  # of several folders the whole path
    assert all(answer(server, "findings", file=name) for name in listed)


def test_errors_are_the_librarys_sentence(root):
    (root / "note.txt").write_text("no samples")
    np.savetxt(root / "bare.csv", simulate("sinus", seed=1).record.signal.T, delimiter=",", fmt="%.4f")
    server = build_server([root])
    for name, arguments in (
        ("measure", {"file": "note.txt"}),
        ("findings", {"file": "bare.csv"}),
        ("render", {"file": "a.hea", "layout": "9x9"}),
    ):
        said = refusal(server, name, **arguments)
        assert said.startswith("expected "), said
        assert "Traceback" not in said
    stated = {"fs": 500, "units": "mV", "lead_names": list(LEADS)}
    assert answer(server, "findings", file="bare.csv", reading=stated)["refused"] is None
    for wrong in ({"units": "volts"}, {"unit": "mV"}):
        assert f"reading.{next(iter(wrong))}" in refusal(server, "findings", file="bare.csv", reading=wrong)


def test_mistakes_of_the_command(root, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wrong = [["--root", "nowhere"]]
        addresses = ("8765", "127.0.0.1:99999", ":80", f"127.0.0.1:{taken.getsockname()[1]}")
        wrong += [["--root", str(root), "--http", address] for address in addresses]
        for arguments in wrong:
            with pytest.raises(SystemExit) as end:
                main(["mcp", *arguments])
            assert end.value.code == 2
            assert capsys.readouterr().err.startswith("gem-lightning: expected ")


def test_over_standard_streams(root):
    """As a client starts it, in a process of its own."""
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "gem_lightning.cli", "mcp", "--root", str(root)],
        env={name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ},
    )
    assert answer(stdio_client(command), "findings", file="a.hea")["findings"]


@pytest.mark.slow
def test_over_http(root):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def ask():
        arguments = ["-m", "gem_lightning.cli", "mcp", "--root", str(root), "--http", f"127.0.0.1:{port}"]
        server = await asyncio.create_subprocess_exec(sys.executable, *arguments)
        try:
            for _ in range(600):  # a minute: the imports of a loaded machine
                try:
                    (await asyncio.open_connection("127.0.0.1", port))[1].close()
                    break
                except OSError:
                    await asyncio.sleep(0.1)
            async with Client(f"http://127.0.0.1:{port}/mcp") as client:
                return await client.call_tool("findings", {"file": "a.hea"})
        finally:
            server.terminate()
            await server.wait()

    found = asyncio.run(ask())
    assert "rbbb" in {finding["code"] for finding in found.structured_content["findings"]}
