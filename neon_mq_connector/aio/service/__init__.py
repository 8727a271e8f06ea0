"""The parts of `AsyncMQConnector`, each on the one before.

Configured, messaging, asking, consuming. Each delegates to a threaded connector, and has what is
done on the loop from a binding to it.
"""
