"""The configuration: YAML to the settings of each component. The only place that knows YAML keys."""

from monitor.config.build import Account, Config, ConfigError, load, load_default
from monitor.config.document import Mistake
from monitor.config.files import Files

__all__ = ["Account", "Config", "ConfigError", "Files", "Mistake", "load", "load_default"]
