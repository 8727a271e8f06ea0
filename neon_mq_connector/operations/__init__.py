"""Functions for operators: queues, dead letters, and what keeps a service from working.

The command `neon-mq` prints what these functions return. Each takes pika's connection parameters,
such as `MQConnector.get_connection_params` makes them, and closes the connection that it opens.
"""
