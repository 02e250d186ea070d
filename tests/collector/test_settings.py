"""Flags, variables, file, defaults: in this order."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from clew.collector.settings import OPTIONS, Address, Settings, SettingsError, load, parse_duration, parse_size


def test_order_is_flag_variable_file_default(tmp_path: Path) -> None:
    """The nearest wins, for each setting on its own."""
    (tmp_path / "clew.toml").write_text('retain = "1d"\nmax-disk = "1GB"\nmax_body = "1MB"\ntail = ["/a", "/b"]\n')

    settings = load({"retain": "3d"}, {"CLEW_RETAIN": "2d", "CLEW_MAX_DISK": "2GB"}, tmp_path)

    assert (3 * 86_400, 2_000_000_000, 1_000_000, ("/a", "/b"), 1 << 30) == (
        settings.retain, settings.max_disk, settings.max_body, settings.tail, settings.max_spool,
    )  # fmt: skip


def test_defaults_are_loopback_and_zipkins_ports(tmp_path: Path) -> None:
    """Nothing set: reachable from this machine only."""
    settings = load({}, {}, tmp_path)

    assert (Address("127.0.0.1", 9411), Address("127.0.0.1", 9410), 604_800, 0) == (
        settings.http, settings.udp, settings.retain, settings.max_disk,
    )  # fmt: skip


def test_every_setting_has_an_option() -> None:
    """The dataclass and the options name the same things."""
    assert [field.name for field in fields(Settings)] == list(OPTIONS)


@pytest.mark.parametrize("flags", [{"http": "0.0.0.0:9411"}, {"udp": "10.0.0.1:9410"}, {"http": "example.org:1"}])
def test_other_addresses_need_a_token_or_insecure(flags: dict[str, str], tmp_path: Path) -> None:
    """The refusal names both ways out; either is enough."""
    with pytest.raises(SettingsError, match="--token SECRET, or --insecure"):
        load(flags, {}, tmp_path)
    assert "t" == load({**flags, "token": "t"}, {}, tmp_path).token
    assert load({**flags, "insecure": True}, {}, tmp_path).insecure


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"http": "9411"}, "host:port"),
        ({"http": "h:99999"}, "host:port"),
        ({"retain": "7"}, "7d"),
        ({"retain": "0d"}, "7d"),
        ({"max_disk": "much"}, "10GB"),
        ({"max_spool": "0"}, "above 0"),
        ({"insecure": "perhaps"}, "true or false"),
    ],
)
def test_bad_values_say_which_and_what_would_do(flags: dict[str, str], said: str, tmp_path: Path) -> None:
    """Name, value, origin and an example."""
    name, value = next(iter(flags.items()))
    with pytest.raises(SettingsError) as refused:
        load(flags, {}, tmp_path)
    assert str(refused.value).startswith(f"{name} = {value!r} (from --{name.replace('_', '-')})")
    assert said in str(refused.value)


def test_unknown_key_of_the_file_is_refused_with_the_nearest(tmp_path: Path) -> None:
    """A typing error is not silently ignored."""
    (tmp_path / "clew.toml").write_text('retian = "1d"\n')
    with pytest.raises(SettingsError, match="Did you mean retain"):
        load({}, {}, tmp_path)


def test_named_file_must_exist(tmp_path: Path) -> None:
    """--config with a path that is not there is an error; so is a file that is not TOML."""
    (tmp_path / "bad.toml").write_text("= 1")
    for name in ("missing.toml", "bad.toml"):
        with pytest.raises(SettingsError, match=name):
            load({"config": str(tmp_path / name)}, {}, tmp_path)


def test_addresses_in_all_forms(tmp_path: Path) -> None:
    """IPv6 in brackets, a port alone, no UDP."""
    settings = load({"http": "[::1]:0", "udp": "none"}, {}, tmp_path)
    assert (Address("::1", 0), None) == (settings.http, settings.udp)
    assert "[::1]:0" == str(settings.http)
    assert Address("127.0.0.1", 80) == load({"http": ":80"}, {}, tmp_path).http


def test_times_and_sizes() -> None:
    """Each unit."""
    assert [90, 1_800, 43_200, 604_800, 1_209_600] == [parse_duration(t) for t in ("90s", "30m", "12h", "7d", "2w")]
    assert [5, 500_000_000, 1_500_000_000, 2 << 30] == [parse_size(t) for t in ("5", "500MB", "1.5GB", "2GiB")]
