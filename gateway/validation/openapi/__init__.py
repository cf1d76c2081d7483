"""OpenAPI 3.0 and 3.1 documents as rules (`gateway.validation.rules`).

node        a place in a document, with the references of OpenAPI followed
dialect     schemas of OpenAPI as JSON Schema 2020-12
paths       which path template a request path matches
parameters  path, query and header parameters, by their styles
bodies      request bodies by media type
document    all of it: the rules of one document
"""
