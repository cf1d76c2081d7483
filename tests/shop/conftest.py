"""A shop on free ports for each module, because starting five processes takes longer than most tests."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from shop.processes import Ports

from tests.shop.open_shop import OpenShop
from tests.support.ports import free_port
from tests.support.processes import clean_environment


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpenShop]:
    """Open, all five processes healthy. A test leaves them so, and orders with a customer of its own."""
    ports = Ports(*(free_port() for _ in range(5)))
    opened = OpenShop(ports, tmp_path_factory.mktemp("shop"), clean_environment())
    try:
        await opened.open()
        yield opened
    finally:
        await opened.close()
