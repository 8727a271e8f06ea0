"""The parts of `MQConnector`, each on the one before: configured, messaging, asking, consuming."""
