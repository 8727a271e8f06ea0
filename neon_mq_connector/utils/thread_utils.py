"""An import path that services have always used."""

from neon_mq_connector.threads.on_demand import RepeatingTimer as RepeatingTimer
