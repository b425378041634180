"""Files of a log that change as they should not: a sentence names the file; nothing is silent."""

import gzip
import json
import os

import pytest

from tests import join_logs
from tfps.join import files
from tfps.join import run as run_lib
from tfps.join.records import BadRecord


def made(folder, rows=600, form="json", **fields):
  """A join of small steps, one of which was made, and the rows of its feature log."""
  features, actions = join_logs.make(rows)
  for log, part in (("features", features), ("actions", actions)):
    if form == "parquet":
      join_logs.write_parquet(folder / log, "log", part)
    else:
      join_logs.write_json(folder / log, "log", part)
  formats = {f"{log}__format": form for log in ("features", "actions")}
  config = join_logs.config(folder, batch_bytes=9000, **formats, **fields)
  return config, features


def step(config, **times):
  join = run_lib.Run(config, **times)
  assert join._step()
  return join


def stopped(join):
  join._store.close()
  for log in join._logs.values():
    log.close()


@pytest.mark.parametrize("restarted", [True, False])
@pytest.mark.parametrize("form", ["json", "parquet"])
def test_a_file_that_is_replaced_while_it_is_read(form, restarted, tmp_path, monkeypatch):
  """By one of the same size, or a longer one: it would be read on in the middle of another log."""
  monkeypatch.setattr(files, "_LISTING_SHARE", 1e9)  # It looks each time.
  config, features = made(tmp_path, form=form)
  join = step(config)
  path = tmp_path / "features" / "log"
  path.unlink()
  others = [{**row, "user_id": f"{row['user_id']}"[::-1]} for row in features]
  getattr(join_logs, f"write_{form}")(tmp_path / "features", "log", others)
  if restarted:
    stopped(join)
    join = run_lib.Run(config)
  with pytest.raises(BadRecord, match=f"{path} was replaced: .*give a new one a name of its own"):
    for _ in range(20):
      join._step()
  stopped(join)


def test_a_log_that_was_rotated_and_has_outgrown_the_old_one(tmp_path):
  """All of it was read; the new file has more, and its beginning would never be read."""
  config, features = made(tmp_path)
  run_lib.Run(config, once=True).run()
  path = tmp_path / "features" / "log"
  size = path.stat().st_size
  path.rename(path.with_name("older"))
  late = [{**row, "time": row["time"] + 900} for row in features * 2]
  join_logs.write_json(tmp_path / "features", "log", late)
  assert path.stat().st_size > size
  with pytest.raises(BadRecord, match=f"{path} was replaced: its first {size:,} bytes"):
    run_lib.Run(config, once=True).run()


def test_a_file_that_goes_away_before_its_rest_was_read(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(files, "_LISTING_SHARE", 1e9)
  config, features = made(tmp_path)
  join_logs.write_json(tmp_path / "features", "more", features[300:])
  join = step(config, once=True)
  (tmp_path / "features" / "more").unlink()
  assert join._step()
  assert f"{tmp_path}/features/more went away before it was read" in capsys.readouterr().err
  path = tmp_path / "features" / "log"
  path.unlink()
  with pytest.raises(BadRecord, match=f"{path} went away before the rest .* byte [0-9,]+ of"):
    join._step()
  stopped(join)


def test_a_file_that_was_read_may_go_away_and_one_may_grow(tmp_path):
  config, features = made(tmp_path)
  run_lib.Run(config, once=True).run()
  for log in ("features", "actions"):
    for path in (tmp_path / log).iterdir():
      path.unlink()
  late = [{**row, "time": row["time"] + 900} for row in features[:50]]
  join_logs.write_json(tmp_path / "features", "new", late)
  path = tmp_path / "features" / "new"
  run_lib.Run(config, once=True).run()
  with open(path, "a") as file:
    file.writelines(
      json.dumps({**row, "time": row["time"] + 900}) + "\n" for row in features[50:60]
    )
  os.utime(path, (0, 0))
  metrics = run_lib.Run(config, once=True).run()
  assert metrics["feature_records"] == len(features) + 60


@pytest.mark.parametrize(
  "content, sentence",
  [
    (b"PAR1", 'is a Parquet file; set config.features.format = "parquet"'),
    (gzip.compress(b"{}\n"), "is compressed; unpack it"),
    ('{"a": 1}\n'.encode("utf-16"), "is a text in UTF-16"),
  ],
  ids=["Parquet", "gz", "UTF-16"],
)
def test_files_that_hold_no_lines_are_refused_also_where_bad_records_are_skipped(
  content, sentence, tmp_path
):
  config, _ = made(tmp_path, rows=20, bad_records="skip")
  (tmp_path / "features" / "0").write_bytes(content)
  with pytest.raises(BadRecord, match=f"{tmp_path}/features/0 {sentence}"):
    run_lib.Run(config, once=True).run()
