"""The parts of `MQConnector`, each on the one before, and what they stand on.

Configured, messaging, asking, pipelined, consuming.
"""
