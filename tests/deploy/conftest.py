"""Only `make test-deploy` collects `docker/`: it builds images and starts containers."""

import os

collect_ignore_glob = [] if os.environ.get("TEST_DEPLOY") else ["docker/*"]
