"""Whether what a client sends is what the API takes: JSON Schema and OpenAPI, and nothing of HTTP connections.

json_body   bytes to a JSON value, or what is wrong with the bytes
faults      what is wrong with a value, in words that hold nothing of it
schemas     the port to the library that compares values with schemas; the only file that knows it
documents   schema files and what they refer to
rules       what one route wants of its requests: a schema for their bodies
openapi     the same by an OpenAPI document
apart       bodies that may take long are judged in a process of their own
"""
