"""docs/operations.md and examples/: settings load, commands and options (those of all pages) exist, and compose finds what prepare.sh makes."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from pgherd.cli.app import build
from pgherd.deploy import node_config
from pgherd.gateway import settings as gateway_settings

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "operations.md"
MACHINES = ROOT / "examples" / "several-machines"
COMPOSE = ROOT / "examples" / "compose"
SECRETS = ("superuser", "replication", "rest")


def blocks(language: str) -> list[str]:
    """The page's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def load(text: str, directory: Path, name: str = "x.toml") -> object:
    """The settings in a text, a node's or a gateway's, with the passwords' files beside it."""
    for secret in SECRETS:
        (directory / f"{secret}.secret").write_text("x\n")
    path = directory / name
    path.write_text(text)
    return gateway_settings.load(path) if "server_tls" in text else node_config.load(path)


def test_settings_on_the_page_load(tmp_path: Path) -> None:
    found = blocks("toml")
    assert [type(load(text, tmp_path)).__name__ for text in found] == ["NodeConfig", "GatewaySettings"]


@pytest.mark.parametrize("path", sorted(MACHINES.glob("*.toml")), ids=lambda path: path.name)
def test_settings_in_the_examples_load(path: Path, tmp_path: Path) -> None:
    load(path.read_text(), tmp_path)


def test_every_setting_is_on_the_page() -> None:
    text = PAGE.read_text()
    node = text[text.index("## Settings of a node") : text.index("## Settings of a gateway")]
    known = set(node_config.NodeConfig.__dataclass_fields__)
    missing = [name for name in known - {"parameters", "durable"} if f"`{name}`" not in node]
    assert not missing


# ---- commands ----------------------------------------------------------------------------------------


def commands() -> dict[str, set[str]]:
    """The options of each command."""
    group = typer.main.get_command(build())
    found: dict[str, Any] = getattr(group, "commands")  # noqa: B009
    return {
        name: {
            option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        for name, command in found.items()
    }


def written() -> Iterator[tuple[str, list[str]]]:
    """Every pgherd command in the pages, the units and the compose file: where, and its words after `pgherd`."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text()
        for block in re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                if match := re.match(r"(?:/opt/pgherd/bin/)?pgherd ([^\[|]*)", line):
                    yield page.name, match[1].split("   ")[0].split()
        for code in re.findall(r"`pgherd ([^`]*)`", text):
            yield page.name, code.split()
    for unit in MACHINES.glob("*.service"):
        words = shlex.split(service(unit)["ExecStart"])
        if words[0].endswith("/pgherd"):
            yield unit.name, words[1:]
    for name, each in yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"].items():
        if each["command"][0] == "pgherd":
            yield name, each["command"][1:]


def service(unit: Path) -> dict[str, str]:
    """The [Service] section of a unit; words that come twice keep the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read_string(unit.read_text())
    return dict(parser["Service"])


def test_commands_and_options_exist() -> None:
    known, found = commands(), list(written())
    assert {"node", "init", "gateway", "add-group", "add-replica", "remove", "status"} <= {
        words[0] for _, words in found
    }
    for where, words in found:
        assert words[0] in known, f"{where}: pgherd {' '.join(words)}"
        for option in words[1:]:
            if option.startswith("--"):
                assert option in known[words[0]], f"{where}: pgherd {' '.join(words)}"


def test_units_run_what_the_page_says() -> None:
    text = PAGE.read_text()
    node, gateway = service(MACHINES / "pgherd-node@.service"), service(MACHINES / "pgherd-gateway.service")
    assert node["ExecStart"].replace("%i", "g0-n1") in text
    assert gateway["ExecStart"] in text
    assert node["KillMode"] == "process"  # a killed supervisor must not take PostgreSQL with it


# ---- compose -----------------------------------------------------------------------------------------


def test_compose_mounts_what_prepare_makes(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("made"))
    place = tmp_path / "examples" / "compose"
    subprocess.run([place / "prepare.sh"], check=True, capture_output=True)
    services = yaml.safe_load((place / "compose.yaml").read_text())["services"]
    for each in services.values():
        mounts = dict(volume.split(":")[:2] for volume in each["volumes"])
        for source, target in mounts.items():
            if source.startswith("./"):
                check_mounted(place / source, target, each)
    assert {name for name in services if name[0] == "g" and name[1].isdigit()} == {
        "g0-n1",
        "g0-n2",
        "g1-n1",
        "g1-n2",
    }


def check_mounted(made: Path, target: str, each: dict[str, Any]) -> None:
    """Every file of the directory `made` that the service names below `target` is there and, if it holds settings, loads."""
    named = [word for word in each["command"] if word.startswith(target)]
    named += [value for value in each.get("environment", {}).values() if str(value).startswith(target)]
    assert named
    for path in named:
        file = made / Path(path).relative_to(target)
        assert file.is_file(), file
        if file.suffix == ".toml":
            found = gateway_settings.load(file) if "gateway.toml" in path else node_config.load(file)
            for certificate in ("tls_cert", "tls_key", "etcd_ca", "etcd_cert", "etcd_key"):
                assert Path(str(getattr(found, certificate))).is_file()
