"""Small programmes for the tests: exposures on disk, and a plan of them."""

import hashlib
import shutil

import numpy as np

from factories import make_model, save
from webbkg.batch.groups import Group, Kind, Member, Plan

SHAPE = (24, 32)


def write_exposure(path, rng, shape=SHAPE):
    sci = rng.normal(10, 1, shape).astype(np.float32)
    err = rng.uniform(0.5, 1.5, shape).astype(np.float32)
    dq = np.where(rng.random(shape) < 0.1, 4, 0).astype(np.uint32)
    return save(make_model(sci, err, dq, at=(5, 8), meta__bunit_data="DN/s"), path).name


def write_programme(folder, targets=3, backgrounds=2, nods=3, shape=SHAPE, seed=1, copies=False):
    """Write targets with their own backgrounds, and a group of nods; return the plan.

    `copies`: all targets are the first one's, which takes less time.
    """
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    groups = []
    if targets:
        sky = [write_exposure(folder / f"sky{i}_rate.fits", rng, shape) for i in range(backgrounds)]
        paths = [folder / f"t{i:04}_rate.fits" for i in range(targets)]
        named = [path.name for path in paths]
        for path in paths[: 1 if copies else targets]:
            write_exposure(path, rng, shape)
        for path in paths[1:] if copies else ():
            shutil.copyfile(paths[0], path)
        members = tuple(Member(target=name, backgrounds=tuple(sky)) for name in named)
        groups.append(Group(name="field", kind=Kind.DEDICATED, members=members))
    if nods:
        named = [write_exposure(folder / f"nod{i}_rate.fits", rng, shape) for i in range(nods)]
        members = tuple(
            Member(target=name, backgrounds=tuple(n for n in named if n != name)) for name in named
        )
        groups.append(Group(name="nods", kind=Kind.DITHERS, members=members))
    return Plan(groups=tuple(groups), folder=str(folder))


def targets_of(plan):
    return [member.target for group in plan.groups for member in group.members]


def pixels(path):
    """Digest of a product without what tells when it was made: its planes."""
    from astropy.io import fits

    digest = hashlib.sha256()
    with fits.open(path) as hdus:
        for hdu in hdus[1:-1]:
            digest.update(hdu.header.tostring().encode() + hdu.data.tobytes())
    return digest.hexdigest()


def products(folder):
    return {path.name: pixels(path) for path in sorted(folder.glob("*_backgroundstep.fits"))}


def left_behind(folder):
    """List what a run should not leave: unfinished files."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".webbkg-")]
