"""Flags, variables, file, defaults: in this order."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from clew.collector.settings import OPTIONS, Address, Settings, SettingsError, Token, load, parse_duration, parse_size


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


@pytest.mark.parametrize("address", ["0.0.0.0:9411", "10.0.0.1:9411", "example.org:1"])
def test_other_addresses_need_a_token_or_insecure(address: str, tmp_path: Path) -> None:
    """The refusal names the ways out; each is enough."""
    flags = {"http": address}
    with pytest.raises(SettingsError, match=r"--token-file FILE \(or --token SECRET\), or --insecure"):
        load(flags, {}, tmp_path)
    (tmp_path / "tokens").write_text("t")
    assert (Token("t"),) == load({**flags, "token": "t"}, {}, tmp_path).tokens
    assert (Token("t"),) == load({**flags, "token_file": str(tmp_path / "tokens")}, {}, tmp_path).tokens
    assert load({**flags, "insecure": True}, {}, tmp_path).insecure


@pytest.mark.parametrize("flags", [{}, {"token": "t"}])
def test_datagrams_stay_on_loopback(flags: dict[str, str], tmp_path: Path) -> None:
    """They carry no token, so having one does not help."""
    with pytest.raises(SettingsError, match="datagrams carry no token"):
        load({**flags, "udp": "10.0.0.1:9410"}, {}, tmp_path)
    assert None is load({**flags, "udp": "none"}, {}, tmp_path).udp
    assert load({**flags, "udp": "10.0.0.1:9410", "insecure": True}, {}, tmp_path).udp


def test_tokens_have_purposes(tmp_path: Path) -> None:
    """Several from a flag, a variable or a file, in which comments may stand."""
    path = tmp_path / "tokens"
    path.write_text("# services\nwrite:w1\n\n  write:w2\nread:r\nboth:and\n")
    settings = load({"token": ("a", "read:b")}, {"CLEW_TOKEN_FILE": str(path)}, tmp_path)
    assert (
        Token("a"), Token("b", write=False),
        Token("w1", read=False), Token("w2", read=False), Token("r", write=False), Token("both:and"),
    ) == settings.tokens  # fmt: skip


@pytest.mark.parametrize("value", ["s3cr\u00e9t", "read:"])
def test_refusals_do_not_show_secrets(value: str, tmp_path: Path) -> None:
    """Neither in the sentence nor in what caused it."""
    with pytest.raises(SettingsError, match=r"^token = \*\*\* \(from CLEW_TOKEN\)") as refused:
        load({}, {"CLEW_TOKEN": value}, tmp_path)
    assert refused.value.__cause__ is None


def test_settings_do_not_show_secrets(tmp_path: Path) -> None:
    """They may end up in a traceback."""
    settings = load({}, {"CLEW_TOKEN": "s3cret", "CLEW_STORE": "clickhouse://user:s3cret@host"}, tmp_path)
    assert "s3cret" not in repr(settings)


def test_token_file_that_holds_none_is_refused(tmp_path: Path) -> None:
    """It would leave every door open; so is one that cannot be read."""
    (tmp_path / "empty").write_text("# later\n")
    for name, said in (("empty", "holds no token"), ("missing", "No such file")):
        with pytest.raises(SettingsError, match=said):
            load({"token_file": str(tmp_path / name)}, {}, tmp_path)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"http": "9411"}, "host:port"),
        ({"http": "h:99999"}, "host:port"),
        ({"retain": "7"}, "7d"),
        ({"retain": "0d"}, "7d"),
        ({"max_disk": "much"}, "10GB"),
        ({"max_disk": "19MB"}, "at least 20MB"),
        ({"max_spool": "0"}, "above 0"),
        ({"insecure": "perhaps"}, "true or false"),
        ({"allowed_origins": "grafana.example"}, "https://grafana.example.org"),
        ({"allowed_origins": "https://grafana.example/d"}, "no path"),
        ({"allowed_hosts": "https://traces.example"}, "traces.example.org"),
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
