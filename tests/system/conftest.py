# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the system tests: a machine is booted once for each file of tests (and worker), and cleared of k3s before each test."""
import os
import shutil
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.normpath(os.path.join(HERE, "..", "scenarios")))

import machine as machines  # noqa: E402
import openrc  # noqa: E402


def standins():
    import importlib.util
    spec = importlib.util.spec_from_file_location("scenarios_conftest", os.path.join(HERE, "..", "scenarios", "conftest.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Standins(os.path.join(machines.BUILD, "scenario-standins"))


@pytest.fixture(scope="session")
def standin():
    return standins()


@pytest.fixture(scope="session")
def old(standin):
    return standin("v1.30.4+k3s1")


@pytest.fixture(scope="session")
def new(standin):
    return standin("v1.30.5+k3s1")


@pytest.fixture(scope="session")
def strace():
    if not shutil.which("strace"):
        pytest.skip("needs strace")


@pytest.fixture(scope="module")
def booted():
    reason = machines.why_not()
    if reason:
        pytest.skip(reason)
    machine = machines.Machine()
    yield machine
    machine.close()


@pytest.fixture
def machine(booted):
    booted.reset()
    return booted


@pytest.fixture(scope="session")
def layer():
    reason = openrc.why_not()
    made, why = (None, reason) if reason else openrc.layer()
    if not made:
        pytest.skip(why)
    return made


@pytest.fixture
def boot(layer):
    machines = []

    def start(kind="unified"):
        machines.append(openrc.Machine(layer, kind))
        return machines[-1]
    yield start
    for machine in machines:
        machine.close()
