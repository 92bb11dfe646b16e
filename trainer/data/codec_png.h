#pragma once

#include "trainer/data/image.h"

namespace trainer {

// PNG by libpng. The functions take bytes that begin with a PNG signature, and throw comm::Error 65
// with the name of the image and the decoder's words. Every ancillary chunk except eXIf is skipped
// unread, so compressed profiles and texts are never inflated.
ImageInfo probe_png(const EncodedImage& encoded);
Image decode_png(const EncodedImage& encoded);
LabelImage decode_label_png(const EncodedImage& encoded);

}  // namespace trainer
