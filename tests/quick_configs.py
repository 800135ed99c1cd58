"""Configs are composed sooner in tests: once for each command, and with libyaml.

Hydra composes the config of a command twice, the first time only to read `hydra.mode`, which no config here sets
(tests/test_configs.py). Commands in processes of their own (the slow tests) run without this module.
"""

import yaml
from hydra._internal.hydra import Hydra

composed_mode = Hydra.get_mode


def get_mode(self, config_name, overrides):
    return composed_mode(self, config_name, overrides) if any("hydra.mode" in each for each in overrides) else None


Hydra.get_mode = get_mode
yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # from which OmegaConf derives its own
