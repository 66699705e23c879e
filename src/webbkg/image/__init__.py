"""Image from image: background exposures, averaged."""
