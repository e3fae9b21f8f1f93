/* batch_encode: what makes bytes of batches, for batch_builder.c and batch_filter.c alone. */
#pragma once

#include "protocol/batch.h"

void varint_add(struct buf *out, int64_t v);     /* zigzag */
void sized_add(struct buf *out, struct bytes b); /* its length and its bytes; -1 for null */

/* Appends a header and the records behind it, compressed as h->attributes say. h->size is set. */
err batch_encode(struct batch_header *h, int32_t level, const void *records, size_t size,
                 struct buf *out);
