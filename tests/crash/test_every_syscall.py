# SPDX-License-Identifier: Apache-2.0
"""The swap, and images put in place, killed and failed at every system call. What is checked, and how, is in every_syscall.py."""
import os
import shutil
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import every_syscall as crash  # noqa: E402

BUILD = os.path.abspath(os.environ.get("K3SUP_BUILD_DIR") or os.path.join(crash.TOP, "build", "dev"))
PLAN = crash.PLAN + (crash.FULL if os.environ.get("K3SUP_TEST_FULL") else [])

pytestmark = pytest.mark.skipif(crash.cannot_run() is not None, reason=str(crash.cannot_run()))


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    if not os.path.exists(os.path.join(BUILD, "libk3sup.so.0")):
        pytest.skip("there is no library in %s: build first" % BUILD)
    into = tmp_path_factory.mktemp("drivers")
    crash.compile_drivers(BUILD, str(into))
    yield str(into)
    shutil.rmtree(into)


@pytest.mark.parametrize("case, fault", PLAN, ids=["%s-%s" % (c.name.replace(" ", "_"), f) for c, f in PLAN])
def test_every_point(case, fault, programs):
    every = crash.slice_of(case, os.environ.get("K3SUP_TEST_FULL"))
    result = crash.campaign(case, fault, BUILD, programs, every)
    print(result)
    assert result.void == []
    assert result.bad == []
    assert result.struck > 100 / every


@pytest.mark.parametrize("name", list(crash.MISTAKES) + ["none"])
def test_control(name, programs):
    results, right = crash.control(name, BUILD, programs)
    print(*results, sep="\n")
    assert right
