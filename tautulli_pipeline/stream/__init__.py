"""The event stream: embedded NATS server, publisher and durable consumer."""
