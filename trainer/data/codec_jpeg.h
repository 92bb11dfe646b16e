#pragma once

#include "trainer/data/image.h"

namespace trainer {

// JPEG by libjpeg-turbo. The functions take bytes that begin with a JPEG signature, and throw
// comm::Error 65 with the name of the image and the decoder's words.
ImageInfo probe_jpeg(const EncodedImage& encoded);

// Decodes at 1 / shrink of the size by the reduced DCT, then applies the orientation.
// shrink is the largest of 1, 2, 4, 8 that leaves min_width x min_height.
ShrunkImage decode_jpeg(const EncodedImage& encoded, int min_width, int min_height);

}  // namespace trainer
