"""The stream: the embedded server, the publisher and the durable consumer."""
