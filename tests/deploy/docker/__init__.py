"""The deployment for real: images, containers, networks. `make test-deploy` runs them, `make test` does not."""
