"""Slow and readable twins of how sources are found and graded, in plain NumPy and SciPy."""

import numpy as np
from scipy import ndimage

NO_SKY = 1 | 1 << 31


def block_means(image, size):
    """Average what is not NaN in blocks; NaN where less than half of a block is known."""
    rows, columns = (-(-length // size) for length in image.shape)
    means = np.full((rows, columns), np.nan, np.float32)
    for i in range(rows):
        for j in range(columns):
            block = image[i * size : (i + 1) * size, j * size : (j + 1) * size]
            known = block[np.isfinite(block)]
            if 2 * known.size >= block.size:
                means[i, j] = known.astype(np.float64).mean()
    return means


def mean_image(sci, dq):
    """Average integrations; of three and more the largest and the smallest are left out."""
    usable = np.isfinite(sci) & (dq & np.uint32(NO_SKY) == 0)
    samples = np.sort(np.where(usable, sci, np.nan).astype(np.float64), axis=0)
    image = np.full(sci.shape[1:], np.nan, np.float32)
    for at in np.ndindex(image.shape):
        known = samples[(slice(None), *at)]
        known = known[np.isfinite(known)]
        if known.size:
            image[at] = (known[1:-1] if known.size > 2 else known).mean()
    return image


def against_others(stack):
    """Subtract from each image the lower median of the others."""
    differences = np.full(stack.shape, np.nan, np.float32)
    for k, at in ((k, at) for k in range(len(stack)) for at in np.ndindex(stack.shape[1:])):
        column = stack[(slice(None), *at)]
        others = np.sort(np.delete(column, k)[np.isfinite(np.delete(column, k))])
        if others.size and np.isfinite(column[k]):
            differences[(k, *at)] = column[k] - others[(others.size - 1) // 2]
    return differences


def smooth(image):
    """Average each pixel with its neighbours, where at least five of the nine are known."""
    known = np.isfinite(image)
    sums = ndimage.convolve(
        np.where(known, image, 0).astype(float), np.ones((3, 3)), mode="constant"
    )
    counts = ndimage.convolve(known.astype(float), np.ones((3, 3)), mode="constant")
    return np.where(counts >= 4.5, sums / np.maximum(counts, 1), np.nan)


def level_and_scatter(image):
    known = np.sort(image[np.isfinite(image)].astype(float))
    low, middle = (known[int(share * (known.size - 1))] for share in (0.25, 0.5))
    return middle, (middle - low) / 0.6744897501960817


def mark(image, sigmas):
    """Mark groups of at least two pixels that touch, all above a threshold."""
    level, scatter = level_and_scatter(image)
    threshold = level + sigmas * scatter
    labels, _ = ndimage.label(np.nan_to_num(image, nan=-np.inf) > threshold, np.ones((3, 3)))
    return (labels > 0) & (np.bincount(labels.ravel())[labels] > 1), threshold


def grades(image, far=5, core=255):
    """Grade the sources of a difference; one small enough that every pixel is looked at."""
    image = image - level_and_scatter(image)[0]
    blocks = block_means(image, 4)
    marked, threshold = mark(smooth(image), 3.5)
    wide = mark(blocks, 3.0)[0].repeat(4, 0).repeat(4, 1)[: image.shape[0], : image.shape[1]]
    own = np.where(wide, 1, 0)
    peaks = block_peaks(np.where(marked & np.isfinite(image), image, 0))
    for at in np.argwhere(marked):
        value = np.nan_to_num(image[tuple(at)])
        steps = max(0, int(np.ceil(np.log(max(value / threshold, 1e-9)) / np.log(4))) - 1)
        own[tuple(at)] = core if value > 0.1 * peaks[tuple(at)] else far + steps
    grown = own.copy()
    for dy, dx in np.ndindex(2 * far + 1, 2 * far + 1):
        distance = int(np.ceil(np.hypot(dy - far, dx - far)))
        if 0 < distance <= far:
            moved = np.pad(own, far)[dy : dy + image.shape[0], dx : dx + image.shape[1]]
            reached = moved if distance == 1 else np.where(moved, max(far + 1 - distance, 1), 0)
            grown = np.maximum(grown, np.where(moved >= far, reached, np.minimum(moved, 1)))
    return grown


def block_peaks(image):
    """Give every pixel the largest value in its block of 4 x 4 and the eight around it."""
    found = np.zeros(image.shape)
    for i, j in np.ndindex(image.shape):
        rows = slice(max(i // 4 * 4 - 4, 0), i // 4 * 4 + 8)
        columns = slice(max(j // 4 * 4 - 4, 0), j // 4 * 4 + 8)
        found[i, j] = image[rows, columns].max()
    return found
