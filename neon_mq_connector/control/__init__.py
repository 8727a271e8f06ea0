"""The control connection, for what the broker may refuse, and the probe whether there is one."""
