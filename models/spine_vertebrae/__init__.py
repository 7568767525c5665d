"""Vertebrae of a frontal radiograph of the spine, and the angles between them."""
