"""Folders and zips of images: layouts, splits, labels, and what is refused."""

from __future__ import annotations

import io
import stat
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeq import data
from edgeq.core.errors import EdgeqError


def png(value: int, shape: tuple[int, ...] = (4, 5, 3)) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full(shape, value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def make_zip(path: Path, files: dict[str, bytes]) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return f"zip:{path}"


def make_folder(path: Path, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return f"folder:{path}"


SPLITS = {
    f"{s}/{c}/{i}.png": png(10 * i + j)
    for s in ("train", "test")
    for j, c in enumerate(("cat", "ant", "bee"))
    for i in range(2 + (s == "train"))
}


@pytest.mark.parametrize("make", [make_folder, make_zip])
@pytest.mark.parametrize("outer", ["", "photos/"])
def test_a_folder_and_a_zip_give_the_same_rows(tmp_path: Path, make, outer: str) -> None:
    spec = make(tmp_path / "d", {outer + name: content for name, content in SPLITS.items()} | {outer + "README.md": b"hello"})
    test, train = data.open(spec), data.open(spec, "train")
    assert test.classes == train.classes == ("ant", "bee", "cat")
    assert list(test.names) == ["test/ant/0.png", "test/ant/1.png", "test/bee/0.png", "test/bee/1.png", "test/cat/0.png", "test/cat/1.png"]
    assert test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert len(train) == 9
    assert test.notes == []
    assert (test.image(3) == np.full((4, 5, 3), 12)).all()


def test_the_split_of_a_class_that_only_train_has_keeps_its_number(tmp_path: Path) -> None:
    spec = make_zip(tmp_path / "d.zip", {"train/a/0.png": png(0), "train/b/0.png": png(0), "train/c/0.png": png(0), "test/c/1.png": png(0)})
    assert data.open(spec).labels.tolist() == [2]
    assert data.open(spec, classes=3).classes == ("a", "b", "c")


def test_without_splits_the_same_images_calibrate_and_test(tmp_path: Path) -> None:
    # a class may be called train
    spec = make_zip(tmp_path / "d.zip", {f"{c}/0.png": png(0) for c in ("bus", "car", "train")})
    test, train = data.open(spec), data.open(spec, "train")
    assert test.classes == ("bus", "car", "train")
    assert list(test.names) == list(train.names)
    assert test.notes == []
    assert "calibration" in train.notes[0]


def test_a_missing_split_is_replaced_with_a_note(tmp_path: Path) -> None:
    spec = make_zip(tmp_path / "d.zip", {"train/a/0.png": png(0), "train/b/0.png": png(0)})
    assert len(data.open(spec)) == 2
    assert data.open(spec).notes == [f"{spec} has no test folder: its train images are used"]


def test_val_is_the_test_split(tmp_path: Path) -> None:
    spec = make_zip(tmp_path / "d.zip", {"train/a/0.png": png(0), "val/a/1.png": png(0)})
    assert list(data.open(spec).names) == ["val/a/1.png"]


def test_folders_named_by_numbers_are_labels(tmp_path: Path) -> None:
    spec = make_folder(tmp_path / "d", {f"{c}/0.png": png(0) for c in ("0", "2", "10")})
    opened = data.open(spec, classes=11)
    assert dict(zip(opened.names, opened.labels.tolist(), strict=True)) == {"0/0.png": 0, "10/0.png": 10, "2/0.png": 2}
    with pytest.raises(EdgeqError, match=r"label 10 of 10/0.png is outside the model's classes 0..9"):
        data.open(spec, classes=10)


def test_hidden_files_and_loose_images_are_left_out(tmp_path: Path) -> None:
    files = {"a/0.png": png(0), "b/0.png": png(0), "__MACOSX/a/._0.png": b"x", "a/._0.png": b"x", "preview.png": png(0)}
    opened = data.open(make_zip(tmp_path / "d.zip", files))
    assert list(opened.names) == ["a/0.png", "b/0.png"]
    assert opened.notes == ["1 images outside of class folders are left out"]


TABLE = b"file,label_3,label_4\r\nimg/x.png,0,1\r\nimg/y.png,2,3\r\n"
IMAGES = {"img/x.png": png(1), "img/y.png": png(2), "img/z.png": png(3)}


@pytest.mark.parametrize("make", [make_folder, make_zip])
def test_the_label_column_follows_the_models_class_count(tmp_path: Path, make) -> None:
    spec = make(tmp_path / "d", {**IMAGES, "labels.csv": TABLE})
    three, four = data.open(spec, classes=3), data.open(spec, classes=4)
    assert three.labels.tolist() == [0, 2]
    assert four.labels.tolist() == [1, 3]
    assert "label_4" in four.notes[0]
    assert four.notes[1] == "1 images are not in labels.csv and are left out"
    assert data.open(spec, label_column="label_3", classes=4).labels.tolist() == [0, 2]
    with pytest.raises(EdgeqError, match="--label-column"):
        data.open(spec, classes=7)
    with pytest.raises(EdgeqError, match="did you mean label_4"):
        data.open(spec, label_column="lable_4")


def test_a_table_in_each_split_folder(tmp_path: Path) -> None:
    files = {f"{s}/{i}.png": png(i) for s in ("train", "test") for i in range(2)}
    files |= {"train/labels.csv": b"file,label\n0.png,no\n1.png,yes\n", "test/labels.csv": b"file,label\n1.png,no\n0.png,yes\n"}
    opened = data.open(make_zip(tmp_path / "d.zip", files))
    assert (list(opened.names), opened.labels.tolist(), opened.classes) == (["test/1.png", "test/0.png"], [0, 1], ("no", "yes"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"file,label\nimg/x.png,-1\n", "label -1 of img/x.png is negative"),
        (b"file,label\nimg/x.png,3\n", "outside the model's classes 0..2"),
        (b"file,label\nimg/x.png,1.5\n", "'1.5' is not a whole number"),
        (b"file,label\nimg/x.png,nan\n", "'nan' is not a whole number"),
        (b"file,label\nimg/x.png,1\nimg/y.png,cat\n", "'cat' is not a whole number"),
        (b"file,label\nimg/x.png,1e99\n", "'1e99' is not a whole number"),
        (b"file,label\nimg/x.png\n", "line 2 has 1 cells"),
        (b"file,label\nimg/q.png,1\n", "line 2 names 'img/q.png', which is not an image here"),
        (b"file,label\n../../etc/x.png,1\n", "which is not an image here"),
        (b"file,label\n/etc/x.png,1\n", "which is not an image here"),
        (b"file,label\nimg/x.png,1\nimg/./x.png,1\n", "a second time"),
        (b"img/x.png,1\n", "first line must be a header"),
        (b"", "first line must be a header"),
        (b"file,label\n", "lists no images"),
        (b"file,label\nimg/x.png,\xff\n", "is not a UTF-8 CSV file"),
    ],
)
def test_bad_tables(tmp_path: Path, table: bytes, message: str) -> None:
    with pytest.raises(EdgeqError) as caught:
        data.open(make_zip(tmp_path / "d.zip", {**IMAGES, "labels.csv": table}), classes=3)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["../a/0.png", "a/../../0.png", "/a/0.png", "C:/a/0.png", "..\\a\\0.png"])
def test_a_zip_whose_names_lead_outside(tmp_path: Path, name: str) -> None:
    spec = make_zip(tmp_path / "d.zip", {"a/1.png": png(0), name: png(0)})
    with pytest.raises(EdgeqError, match="leads outside"):
        data.open(spec)
    assert [p.name for p in tmp_path.iterdir()] == ["d.zip"]


def test_dots_in_a_name_do_not_lead_outside(tmp_path: Path) -> None:
    assert len(data.open(make_zip(tmp_path / "d.zip", {"a/1..2.png": png(0)}))) == 1


def test_a_zip_with_a_link(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a/0.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(EdgeqError, match="contains the link"):
        data.open(f"zip:{tmp_path / 'd.zip'}")


def test_a_zip_bomb_is_bounded(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.zip", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a/0.png", "w") as member:
        for _ in range(80):
            member.write(bytes(1 << 20))
    opened = data.open(f"zip:{tmp_path / 'd.zip'}")
    with pytest.raises(EdgeqError, match="unpacks to more than 64 MB"):
        opened.image(0)


def test_a_zip_with_a_damaged_member(tmp_path: Path) -> None:
    spec = make_zip(tmp_path / "d.zip", {"a/0.png": png(7)})
    content = bytearray((tmp_path / "d.zip").read_bytes())
    content[60] ^= 0xFF
    (tmp_path / "d.zip").write_bytes(content)
    with pytest.raises(EdgeqError, match=r"a/0\.png: cannot be unpacked"):
        data.open(spec).image(0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("zip:{}/none.zip", "there is no file"),
        ("zip:", "write zip:PATH"),
        ("zip:{}/text.zip", "is not a zip file"),
        ("folder:{}/none", "there is no folder"),
        ("folder:{}/empty", "contains no images"),
        ("folder:{}/flat", "in no class folders"),
        ("digts", "did you mean digits"),
    ],
)
def test_missing_and_empty(tmp_path: Path, spec: str, message: str) -> None:
    (tmp_path / "text.zip").write_text("not a zip")
    (tmp_path / "empty").mkdir()
    make_folder(tmp_path / "flat", {"0.png": png(0)})
    with pytest.raises(EdgeqError) as caught:
        data.open(spec.format(tmp_path))
    assert message in str(caught.value)


def test_a_path_alone_is_enough(tmp_path: Path) -> None:
    make_zip(tmp_path / "d.zip", SPLITS)
    make_folder(tmp_path / "d", SPLITS)
    assert list(data.open(str(tmp_path / "d.zip")).names) == list(data.open(str(tmp_path / "d")).names)


def test_a_link_that_leads_back_does_not_loop(tmp_path: Path) -> None:
    make_folder(tmp_path / "d", SPLITS)
    (tmp_path / "d" / "test" / "ant" / "again").symlink_to(tmp_path / "d")
    assert len(data.open(f"folder:{tmp_path / 'd'}")) == 6


def test_the_digest_sees_a_changed_image(tmp_path: Path) -> None:
    one = data.open(make_zip(tmp_path / "1.zip", SPLITS)).sha256()
    assert data.open(make_zip(tmp_path / "2.zip", SPLITS)).sha256() == one
    assert data.open(make_zip(tmp_path / "3.zip", SPLITS | {"test/ant/0.png": png(99)})).sha256() != one


def test_decode_names_the_image_that_does_not_fit(tmp_path: Path) -> None:
    opened = data.open(make_folder(tmp_path / "d", {"a/0.png": png(1), "a/1.png": png(2, (4, 6, 3))}))
    assert data.decode(opened, [0, 0], lambda x: x).shape == (2, 4, 5, 3)
    with pytest.raises(EdgeqError, match=r"a/1\.png: has shape \(4, 6, 3\)"):
        data.decode(opened, [0, 1], lambda x: x)


@pytest.mark.parametrize("make", [make_folder, make_zip])
def test_photographs_stand_upright_unless_they_are_wanted_as_stored(tmp_path: Path, make) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(stream, "PNG", exif=exif)
    spec = make(tmp_path / "d", {"a/0.png": stream.getvalue(), "a/1.png": png(0), "b/2.png": stream.getvalue()})
    upright, stored = data.open(spec), data.open(spec, exif=False)
    assert [upright.image(i).shape[:2] for i in range(3)] == [(5, 4), (4, 5), (5, 4)]
    assert [stored.image(i).shape[:2] for i in range(3)] == [(4, 5)] * 3
    assert data.turned(upright, [0, 1, 2])[0].startswith(f"{spec}: 2 of 3 images are turned upright")
    assert data.turned(upright, [0, 1])[0].startswith(f"{spec}: 1 of 2 images is turned upright")
    assert data.turned(upright, [1]) == data.turned(stored, [0, 1, 2]) == []


@pytest.mark.parametrize("make", [make_folder, make_zip])
def test_images_that_cannot_be_read_are_named_or_passed_over(tmp_path: Path, make) -> None:
    photos = {f"{c}/{i}.png": png(i) for c in "ab" for i in range(6)}
    whole = data.open(make(tmp_path / "whole", photos))
    order = [whole.names[i] for i in data.sample(whole, None, 3)]
    broken = data.open(make(tmp_path / "broken", photos | {order[1]: photos[order[1]][:40], order[9]: b"Exif, and no image"}))
    for see in (broken.image, lambda index: data.turned(broken, [index])):
        with pytest.raises(EdgeqError, match=f"{order[9]}: is not an image that can be read .* .--skip-unreadable leaves it out"):
            see(broken.names.index(order[9]))

    assert data.unreadable(whole, 5, 3) == data.left_out(whole, []) == []
    names = data.unreadable(broken, 5, 3)
    assert names == [order[1]]  # the other one is behind the five that are read
    assert [broken.names[i] for i in data.sample(broken, 5, 3, names)] == [order[0], *order[2:6]]
    assert data.left_out(broken, names)[0].startswith(f"{broken.spec}: 1 image that cannot be read is left out")
    assert data.unreadable(broken, None, 3) == [order[1], order[9]]
    assert len(data.sample(broken, None, 3, data.unreadable(broken, None, 3))) == 10
    with pytest.raises(EdgeqError, match=r"none of its 1 images can be read; the first: .*a/0"):
        data.unreadable(data.open(make(tmp_path / "nothing", {"a/0.png": b"no"})), 5, 0)


@pytest.mark.parametrize(
    "table",
    [
        "name,label\nimg/x.png,0\nsub/deep/y.png,1\n",
        "label;filename\n0;img/x.png\n1;sub/deep/y.png\n",
        "image_id\tlabel\nimg/x\t0\nsub/deep/y\t1\n",
        "file,label\n/home/me/photos/img/x.png,0\n/home/me/photos/sub/deep/y.png,1\n",
        "file,label\nC:\\photos\\img\\x.png,0\nC:\\photos\\sub\\deep\\y.png,1\n",
        "file,label\n./data/img/x,0\n./data/sub/deep/y,1\n",
        "id,label\nx.png,0\ny,1\n",
        "name,file\n0,img/x.png\n1,sub/deep/y.png\n",
    ],
)
@pytest.mark.parametrize("make", [make_folder, make_zip])
def test_tables_name_images_in_many_ways(tmp_path: Path, make, table: str) -> None:
    spec = make(tmp_path / "d", {"img/x.png": png(1), "sub/deep/y.png": png(2), "labels.csv": table.encode()})
    opened = data.open(spec)
    assert (list(opened.names), opened.labels.tolist()) == (["img/x.png", "sub/deep/y.png"], [0, 1])


def test_a_table_of_endless_paths_takes_little_memory(tmp_path: Path) -> None:
    files = {f"img/{i}.png": png(1) for i in range(20)} | {"labels.csv": b"file,label\n" + b"a/" * 60_000 + b"x.png,0\n"}
    spec = make_folder(tmp_path / "d", files)
    tracemalloc.start()
    with pytest.raises(EdgeqError, match="which is not an image here"):
        data.open(spec)
    assert tracemalloc.get_traced_memory()[1] < 96 << 20  # 64 MB are the buffer of a table; all ends of such a path would be gigabytes
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["x", "x.png", "../img/x.png", "g/x.png"])
def test_a_name_that_may_mean_several_images_or_none_is_refused(tmp_path: Path, name: str) -> None:
    files = {"img/x.png": png(1), "sub/x.png": png(2), "labels.csv": f"file,label\n{name},0\n".encode()}
    with pytest.raises(EdgeqError, match="which is not an image here"):
        data.open(make_folder(tmp_path / "d", files))
