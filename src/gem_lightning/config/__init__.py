"""Entry points' shared part: the Hydra main wrapper and the validation of configs."""
