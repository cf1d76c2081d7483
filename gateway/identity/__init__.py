"""Who asks: what credentials are and whose they are, and what the tenants of the gateway have used."""
