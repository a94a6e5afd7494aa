# SPDX-License-Identifier: Apache-2.0
"""What is installed is what a user needs: found by pkg-config and by CMake, and a program built with either runs."""
import os

import pytest
from abi_tools import BUILD, TOP, headers, run

PROGRAM = """#include <k3sup.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
	char built[32];

	(void)snprintf(built, sizeof(built), "%d.%d.%d", K3SUP_VERSION_MAJOR, K3SUP_VERSION_MINOR, K3SUP_VERSION_PATCH);
	puts(k3sup_version());
	return strcmp(built, k3sup_version()) != 0;
}
"""
PROJECT = """cmake_minimum_required(VERSION 3.16)
project(user LANGUAGES C)
find_package(libk3sup 0.1 REQUIRED)
add_executable(user user.c)
target_link_libraries(user PRIVATE libk3sup::k3sup)
"""


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    where = tmp_path_factory.mktemp("prefix")
    result = run("cmake", "--install", BUILD, "--prefix", where)
    assert result.returncode == 0, result.stderr
    return where


def test_all_public_headers_are_there_and_nothing_private(prefix):
    there = {str(path.relative_to(prefix / "include")) for path in (prefix / "include").rglob("*") if path.is_file()}
    assert there == set(headers())


def test_the_library_has_its_three_names(prefix):
    (library,) = prefix.glob("lib/**/libk3sup.so")
    assert os.readlink(library) == "libk3sup.so.0"
    assert os.readlink(library.with_name("libk3sup.so.0")).startswith("libk3sup.so.0.")


def test_the_schema_and_the_programs_are_there(prefix):
    assert (prefix / "share/k3sup/k3sup.schema.json").read_text() == (TOP / "libk3sup/k3sup.schema.json").read_text()
    programs = {path.stem for path in (TOP / "examples").glob("k3sup-*.c")}
    assert {path.name for path in (prefix / "bin").iterdir()} >= programs


def test_nothing_names_the_build_directory(prefix):
    for path in list(prefix.rglob("*.pc")) + list(prefix.rglob("*.cmake")):
        assert str(BUILD) not in path.read_text() and str(TOP) not in path.read_text(), path.name


def test_a_program_is_built_by_pkg_config(prefix, tmp_path):
    (package,) = prefix.glob("lib/**/libk3sup.pc")
    (tmp_path / "user.c").write_text(PROGRAM)
    # The prefix was chosen while installing, so pkg-config is told of it; otherwise it is in the file.
    flags = run("pkg-config", "--define-variable", f"prefix={prefix}", "--cflags", "--libs", "libk3sup", env={**os.environ, "PKG_CONFIG_PATH": str(package.parent)})
    assert flags.returncode == 0, flags.stderr
    assert "-luv" not in flags.stdout, "what the library uses is not its users' business"
    built = run("gcc", "-std=c17", "-Wall", "-Wextra", "-Werror", "-o", tmp_path / "user", tmp_path / "user.c", *flags.stdout.split())
    assert built.returncode == 0, built.stderr
    result = run(tmp_path / "user", env={"LD_LIBRARY_PATH": str(package.parent.parent)})
    assert result.returncode == 0 and result.stdout


def test_a_program_is_built_by_cmake(prefix, tmp_path):
    (tmp_path / "user.c").write_text(PROGRAM)
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    result = run("cmake", "-S", tmp_path, "-B", tmp_path / "build", "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}")
    assert result.returncode == 0, result.stderr
    result = run("cmake", "--build", tmp_path / "build")
    assert result.returncode == 0, result.stdout
    result = run(tmp_path / "build/user")
    assert result.returncode == 0 and result.stdout
