/* Where the scrub is, over restarts: the file `rivulet.scrub` in the data directory, replaced
 * whole.
 *
 *   rivulet.scrub 1 BEGAN_MS BASE DIR CRC32C
 *
 * One line. BEGAN_MS: wall time at which the pass began. DIR (a partition's directory) and BASE (a
 * segment's): all up to there is done, in the order of the directories' names; BASE -1, without a
 * DIR: the pass is over. The checksum is of what stands before it. A file that is not so is none:
 * that costs another pass, no more.
 */
#include "broker/log/internal.h"

#include "base/crc32c.h"

#include <inttypes.h>
#include <stdio.h>

enum { CRC_SIZE = 9 }; /* 8 digits and the line's end */

static const char name[] = "rivulet.scrub";

void scrub_place_text(const struct scrub_place *place, struct buf *out)
{
    out->len = 0;
    buf_printf(out, "%s 1 %" PRId64 " %" PRId64 " %s ", name, place->began_ms, place->base,
               place->dir);
    buf_printf(out, "%08x\n", (unsigned)crc32c(out->ptr, out->len));
}

err scrub_place_write(struct store *store, const struct buf *text)
{
    return store_replace_file(store, name, text->ptr, text->len);
}

/* Reads what scrub_place_text makes, and nothing else. */
static bool parse(struct buf *text, struct scrub_place *ret_place)
{
    enum { SPACES = 2 }; /* around the directory */
    struct scrub_place p = {0};
    int at = 0;
    if (sscanf(buf_text(text), "rivulet.scrub 1 %" SCNd64 " %" SCNd64 "%n", &p.began_ms, &p.base,
               &at) != 2 ||
        p.began_ms < 0 || text->len < (size_t)at + SPACES + CRC_SIZE) {
        return false;
    }
    size_t size = text->len - (size_t)at - SPACES - CRC_SIZE;
    if (size >= sizeof p.dir || (size == 0) != (p.base < 0)) {
        return false;
    }
    memcpy(p.dir, text->ptr + at + 1, size);
    struct buf same = {0};
    scrub_place_text(&p, &same);
    bool good = same.len == text->len && memcmp(same.ptr, text->ptr, same.len) == 0;
    buf_finish(&same);
    *ret_place = p;
    return good;
}

err scrub_place_read(struct store *store, struct scrub_place *ret_place)
{
    struct buf text = {0};
    struct scrub_place p = {0};
    err e = store_read_file(store, name, LOG_PATH_SIZE, &text);
    if (!e && !parse(&text, &p)) {
        e = ERR_CORRUPT;
    }
    if (!e) {
        *ret_place = p;
    }
    buf_finish(&text);
    return e;
}
