#include "tests/kit/golden.h"

#include "base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum { FRAMES_MAX = 1000, LINE_SIZE = 8192 };

const char *const golden_clients[] = {"kcat", "confluent", "java", NULL};

static int nibble(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    assert_in_range(c, 'a', 'f');
    return c - 'a' + 10;
}

static struct bytes unhex(struct arena *a, const char *hex, size_t len)
{
    uint8_t *p = arena_alloc(a, len / 2 + 1);
    check(p);
    assert_int_equal(len % 2, 0);
    for (size_t i = 0; i < len / 2; i++) {
        p[i] = (uint8_t)(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
    }
    return (struct bytes){.ptr = p, .len = len / 2};
}

struct golden golden_read(struct arena *a, const char *client)
{
    struct golden g = {.frames = arena_zero(a, FRAMES_MAX, sizeof *g.frames)};
    char path[128], line[LINE_SIZE];
    snprintf(path, sizeof path, "tests/data/golden/%s.hex", client);
    FILE *f = fopen(path, "re");
    if (!f || !g.frames) {
        fail_msg("%s cannot be read", path);
    }
    while (fgets(line, sizeof line, f)) {
        int key, version, at = 0;
        if (line[0] == '#') {
            continue;
        }
        assert_int_equal(sscanf(line, "%d %d %n", &key, &version, &at), 2);
        assert_true(at > 0 && g.count < FRAMES_MAX);
        size_t len = strcspn(line + at, "\n");
        assert_int_equal(line[(size_t)at + len], '\n');
        g.frames[g.count++] =
            (struct golden_frame){(int16_t)key, (int16_t)version, unhex(a, line + at, len)};
    }
    fclose(f);
    assert_true(g.count > 0);
    return g;
}
