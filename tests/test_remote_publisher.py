"""A publisher changes a project that others read over HTTP: they see it on the next opening, and meet no half of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from copick_mlc import CopickRootMLC, from_croissant
from tests.projects import inventory
from tests.proxy import Proxy
from tests.servers import http_server
from tests.test_remote import run_of


@pytest.fixture
def web(project: Path) -> Iterator[Proxy]:
    """A web server with the project."""
    with http_server(project, listings=False) as url, Proxy(url) as proxy:
        yield proxy


def opened(web: Proxy) -> CopickRootMLC:
    return from_croissant(f"{web.url}/Croissant/metadata.json", croissant_base_url=web.url)


def sessions(root: CopickRootMLC) -> set[str]:
    return {picks.session_id for picks in run_of(root).get_picks(user_id="me")}


def test_a_change_is_seen_after_a_refresh_and_by_who_opens_the_project(web: Proxy, root: CopickRootMLC) -> None:
    before, reader = opened(web), opened(web)
    assert sessions(reader) == set()
    run_of(root).new_picks("ribosome", "1", user_id="me")
    assert sessions(reader) == set()
    reader.refresh()
    assert sessions(reader) == sessions(opened(web)) == {"1"}
    assert sessions(before) == {"1"}  # it had read the manifest alone
    assert inventory(reader) == inventory(root)


def test_a_refresh_asks_for_what_changed(web: Proxy, root: CopickRootMLC) -> None:
    reader = opened(web)
    inventory(reader, data=False)
    run_of(root).new_picks("ribosome", "1", user_id="me")
    with web.counting() as seen:
        reader.refresh()
        sessions(reader)
    assert sorted(request.path for request in seen) == ["/Croissant/metadata.json", "/Croissant/picks.csv"]


def test_a_table_that_is_read_late_is_that_of_the_new_manifest(web: Proxy, root: CopickRootMLC) -> None:
    reader = opened(web)
    assert reader.index.groups("runs")
    run = run_of(root)
    with root.batch():
        run.new_picks("ribosome", "1", user_id="me")
        root.new_run("new")
    assert sessions(reader) == {"1"}
    assert "new" in reader.index.groups("runs")


def test_who_reads_while_it_is_written_meets_no_error(web: Proxy, root: CopickRootMLC) -> None:
    done = threading.Event()

    def read() -> int:
        count = 0
        while not done.is_set():
            inventory(opened(web), data=False)
            count += 1
        return count

    run = run_of(root)
    with ThreadPoolExecutor(2) as executor:
        readers = [executor.submit(read) for _ in range(2)]
        try:
            for number in range(20):
                with root.batch():
                    run.new_picks("ribosome", str(number), user_id="me")
                    run.split = f"part-{number}"
        finally:
            done.set()
        assert all(reader.result() for reader in readers)
    assert sessions(opened(web)) == {str(number) for number in range(20)}
