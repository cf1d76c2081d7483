"""The deployment files, checked without Docker. `docker/` holds the tests that need it: `make test-deploy`."""
