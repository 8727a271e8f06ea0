"""What an operator asks of a broker, as functions: queues, dead letters, what is wrong.

The command `neon-mq` prints what these functions return. Each takes pika's connection parameters,
such as `MQConnector.get_connection_params` makes them, and closes the connection that it opens.
"""
