"""JSON Web Tokens as bytes and keys as JSON: JWS compact form (RFC 7515), JWK sets (RFC 7517), algorithms (RFC 7518).
Nothing here knows of the gateway."""
