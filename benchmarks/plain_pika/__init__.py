"""What is measured: plain pika, used as its documentation says, by somebody who knows it well."""
