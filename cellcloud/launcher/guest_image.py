"""The tiny guest: a bootable image made of Debian's kernel, busybox and dropbear in a few seconds.

It takes its address as its config drive says or by DHCP, and its hostname, key and user data from the config drive or
the metadata service, answers SSH with that key only, shows a login (root, password tiny) on its screen and serial
console, and powers off when asked by ACPI. Needs about 96 MiB of memory. Nothing is mounted, so no loop device is
needed.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from cellcloud import errors

FILES = Path(__file__).with_name("guest")
MBR = Path("/usr/lib/syslinux/mbr/mbr.bin")
KERNEL = "linux-image-cloud-amd64"
PACKAGES = (
    *("busybox-static", "dropbear-bin", "libtomcrypt1", "libtommath1", "libgmp10"),
    *("libc6", "libcrypt1", "zlib1g"),
)
MODULES = (
    *("virtio_pci", "virtio_blk", "virtio_net", "virtio_balloon", "virtio-rng", "virtio_console"),
    *("virtio_scsi", "sd_mod", "sr_mod", "isofs", "ata_piix", "evdev", "button"),
)
DIRECTORIES = (
    *("bin", "dev", "etc/acpi/PWRF", "etc/dropbear", "etc/init.d", "lib/modules", "lib64", "mnt", "newroot"),
    *("proc", "root", "run", "sys", "tmp", "usr/bin", "var"),
)
PLACES = {"init": "init", "rcS": "etc/init.d/rcS", "powerbtn": "etc/acpi/PWRF/00000080"}
EXECUTABLE = ("init", "rcS", "powerbtn", "udhcpc.sh")
MIB = 1 << 20
BOOT_MIB, ROOT_MIB = 32, 24
PARTITIONS = f"""label: dos
start=2048,size={BOOT_MIB * 2048},type=e,bootable
start={(1 + BOOT_MIB) * 2048},size={ROOT_MIB * 2048},type=83
"""

Progress = Callable[[str], None]


def ensure_guest_image(cache: Path, progress: Progress = lambda _: None) -> Path:
    """Return the guest's qcow2 file in ``cache``, built if it is not there in this version.

    ``progress`` is told of each long step. Raises Misconfigured when a tool or package is missing.
    """
    cache.mkdir(parents=True, exist_ok=True)
    image = cache / f"tiny-{_recipe_digest()}.qcow2"
    with (cache / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not image.exists():
            packages = _ensure_packages(cache / "packages", progress)
            progress("Building the tiny guest image")
            with tempfile.TemporaryDirectory(dir=cache, prefix="build-") as work:
                _build(Path(work), packages).replace(image)
    return image


def _recipe_digest() -> str:
    """Return what changes when anything that goes into the image does, package versions aside."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(FILES.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _ensure_packages(directory: Path, progress: Progress) -> Path:
    """Return a tree with the packages unpacked, downloaded once."""
    if directory.exists():
        return directory
    progress("Downloading the guest's kernel and programs from Debian")
    depends = _run(["apt-cache", "depends", "--important", KERNEL], check=False)
    if "Depends:" not in depends:
        _run(["apt-get", "-qq", "update"])
        depends = _run(["apt-cache", "depends", "--important", KERNEL])
    kernel = [line.split()[1] for line in depends.splitlines() if line.strip().startswith("Depends: linux-image")]
    fresh = directory.with_name("packages.new")
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "archives").mkdir(parents=True)
    _run(
        ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *PACKAGES, *kernel],
        cwd=fresh / "archives",
    )
    for archive in (fresh / "archives").glob("*.deb"):
        _run(["dpkg-deb", "--extract", str(archive), str(fresh)])
    shutil.rmtree(fresh / "archives")
    _run(["depmod", "-b", str(fresh), _kernel_version(fresh)])
    fresh.replace(directory)
    return directory


def _build(work: Path, packages: Path) -> Path:
    """Make the image in ``work`` and say where it is."""
    tree = work / "tree"
    _plant(tree, packages)
    ramdisk = work / "initrd.gz"
    ramdisk.write_bytes(gzip.compress(_archive(tree), 6, mtime=0))
    _plant_ssh(tree, packages)

    root = _blank(work / "root", ROOT_MIB)
    # no journal: it would take a sixth of so small a disk
    _run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0", "-d", str(tree), str(root)])
    boot = _blank(work / "boot", BOOT_MIB)
    _run(["mkfs.fat", "-F", "16", "-n", "TINYBOOT", str(boot)])
    kernel = packages / "boot" / f"vmlinuz-{_kernel_version(packages)}"
    for source, name in ((kernel, "vmlinuz"), (ramdisk, "initrd.gz"), (FILES / "syslinux.cfg", "syslinux.cfg")):
        _run(["mcopy", "-i", str(boot), str(source), f"::{name}"])
    _run(["syslinux", "--install", str(boot)])

    disk = _blank(work / "disk", 2 + BOOT_MIB + ROOT_MIB)
    _write_at(disk, MBR, 0)
    _run(["sfdisk", "-q", str(disk)], text=PARTITIONS)
    _write_at(disk, boot, MIB)
    _write_at(disk, root, (1 + BOOT_MIB) * MIB)
    image = work / "tiny.qcow2"
    _run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(disk), str(image)])
    return image


def _plant(tree: Path, packages: Path) -> None:
    """Make the file tree that serves as first ramdisk and as root."""
    for name in DIRECTORIES:
        (tree / name).mkdir(parents=True, exist_ok=True)
    for source in FILES.iterdir():
        if source.name != "syslinux.cfg":
            target = tree / PLACES.get(source.name, f"etc/{source.name}")
            shutil.copyfile(source, target)
            target.chmod(0o755 if source.name in EXECUTABLE else 0o644)
    for name, mode in {"etc/shadow": 0o600, "root": 0o700, "tmp": 0o1777}.items():
        (tree / name).chmod(mode)
    busybox = tree / "bin/busybox"
    shutil.copy(packages / "bin/busybox", busybox)
    for applet in _run([str(busybox), "--list"]).split():
        if applet != "busybox":
            (tree / "bin" / applet).symlink_to("busybox")
    names = []
    for module in _modules(packages):
        shutil.copy(module, tree / "lib/modules" / module.name)
        names.append(module.name)
    (tree / "etc/modules").write_text("\n".join(names) + "\n")


def _plant_ssh(tree: Path, packages: Path) -> None:
    """Add the SSH server with the libraries it names, as the packages' own loader finds them."""
    dropbear = packages / "usr/sbin/dropbear"
    loader = next(packages.glob("lib*/**/ld-linux-x86-64.so.2"))
    places = [packages / part / "x86_64-linux-gnu" for part in ("lib", "usr/lib")]
    found = _run([str(loader.resolve()), "--library-path", ":".join(map(str, places)), "--list", str(dropbear)])
    for line in found.splitlines():
        library = Path(line.split("=>")[-1].split()[0])
        if library.is_relative_to(packages):
            shutil.copy(library, tree / "lib" / library.name)
    shutil.copy(loader.resolve(), tree / "lib64/ld-linux-x86-64.so.2")
    shutil.copy(dropbear, tree / "bin/dropbear")


def _modules(packages: Path) -> list[Path]:
    """Return the drivers' files in loading order."""
    version = _kernel_version(packages)
    found: dict[Path, None] = {}
    for name in MODULES:
        query = ["modprobe", "-d", str(packages), "-S", version, "--show-depends", "--ignore-install", name]
        for line in _run(query).splitlines():
            words = line.split()
            if words[0] == "insmod":
                found[Path(words[1])] = None
    return list(found)


def _kernel_version(packages: Path) -> str:
    return next((packages / "lib/modules").iterdir()).name


def _archive(tree: Path) -> bytes:
    """Return the tree as the kernel takes a ramdisk: cpio, all owned by root."""
    names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
    done = subprocess.run(
        ["cpio", "--create", "--format=newc", "--quiet", "--owner=0:0"],
        input="\n".join(names).encode(),
        capture_output=True,
        cwd=tree,
        check=True,
    )
    return done.stdout


def _blank(path: Path, mib: int) -> Path:
    with path.open("wb") as file:
        file.truncate(mib * MIB)
    return path


def _write_at(disk: Path, source: Path, offset: int) -> None:
    """Copy a file into the disk, leaving holes where it is empty."""
    with disk.open("r+b") as out, source.open("rb") as data:
        while block := data.read(1 << 16):
            if block.strip(b"\0"):
                out.seek(offset)
                out.write(block)
            offset += len(block)


def _run(
    argv: Sequence[str],
    *,
    text: str | None = None,
    cwd: Path | None = None,
    check: bool = True,
) -> str:
    """Run a tool; raises Misconfigured with what it said when it is missing or fails."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    surroundings = {**os.environ, "PATH": path, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, cwd=cwd, env=surroundings, check=False)
    except FileNotFoundError as error:
        raise errors.Misconfigured(f"{argv[0]} is not installed.") from error
    if check and done.returncode != 0:
        raise errors.Misconfigured(f"{argv[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout
