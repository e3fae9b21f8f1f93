/* The settings file: whatever it says, it is refused with a reason, or what --print-config prints
 * of it is read as the same again. Addresses and a topic's settings likewise.
 *
 *   uint8 kind (0: file, 1: addresses, 2: a topic's settings, lines) · text
 */
#include "base/mem.h"
#include "broker/config.h"
#include "tests/fuzz/fuzz.h"

static struct bytes file; /* what read_file gives; set anew for each input */

static err read_file(const char *path, struct buf *out)
{
    (void)path;
    buf_add(out, file.ptr, file.len);
    return OK;
}

static struct config *load(struct bytes text, bool must)
{
    struct config *c = NULL;
    struct buf why = {0};
    struct config_input input = {.file = "f"};
    file = text;
    err e = config_load(&input, read_file, &why, &c);
    check(!e || (why.len > 0 && !must)); /* a refusal has a reason */
    buf_finish(&why);
    return e ? NULL : c;
}

/* name=value of every setting, without the remarks of --print-config. */
static void print_plain(const struct config *c, struct buf *out)
{
    for (int i = 0; i < CONFIG_ROW_COUNT; i++) {
        buf_printf(out, "%s=", config_rows[i].name);
        struct buf value = {0};
        config_value_text(c, (enum config_row_id)i, &value);
        for (size_t n = 0; n < value.len; n++) {
            buf_printf(out, "%s%c", value.ptr[n] == '\\' ? "\\" : "", value.ptr[n]);
        }
        buf_add_str(out, STR("\n"));
        buf_finish(&value);
    }
}

static void config_file(struct bytes text)
{
    struct config *c = load(text, false);
    if (!c) {
        return;
    }
    struct buf first = {0};
    struct buf second = {0};
    struct buf shown = {0};
    config_print(c, &shown);
    print_plain(c, &first);
    struct config *again = load((struct bytes){(const uint8_t *)first.ptr, first.len}, true);
    print_plain(again, &second);
    check(first.len == second.len && memcmp(first.ptr, second.ptr, first.len) == 0);
    struct buf kept = {0};
    config_keep_static(again, c, &kept);
    check(kept.len == 0); /* they do not differ */
    buf_finish(&kept);
    config_unref(c);
    config_unref(again);
    buf_finish(&first);
    buf_finish(&second);
    buf_finish(&shown);
}

static void addresses(struct str text)
{
    struct config_endpoint endpoints[CONFIG_ENDPOINTS_MAX];
    int count = -1;
    struct buf why = {0};
    err e = config_parse_endpoints(text, endpoints, &count, &why);
    check(e ? why.len > 0 : count >= 0 && count <= CONFIG_ENDPOINTS_MAX);
    for (int i = 0; !e && i < count; i++) {
        check(memchr(endpoints[i].host, 0, sizeof endpoints[i].host));
    }
    buf_finish(&why);
}

enum { PAIRS_MAX = 16 };

static void topic_settings(struct str text)
{
    struct config_pair pairs[PAIRS_MAX];
    int32_t n = 0;
    while (text.len && n < PAIRS_MAX) {
        const char *end = memchr(text.ptr, '\n', text.len);
        struct str line = {text.ptr, end ? (size_t)(end - text.ptr) : text.len};
        const char *equals = line.len ? memchr(line.ptr, '=', line.len) : NULL;
        size_t name = equals ? (size_t)(equals - line.ptr) : line.len;
        size_t value = equals ? name + 1 : name;
        pairs[n++] = (struct config_pair){
            {line.ptr,         name            },
            {line.ptr + value, line.len - value}
        };
        size_t used = line.len + (end ? 1 : 0);
        text = (struct str){text.ptr + used, text.len - used};
    }
    struct config *c = load((struct bytes){(const uint8_t *)"", 0}, true);
    struct topic_config *t = NULL;
    struct buf why = {0};
    if (topic_config_create(c, pairs, n, &why, &t)) {
        check(why.len > 0);
    } else {
        int32_t count;
        const struct config_pair *own = topic_config_overrides(t, &count);
        check(count == n);
        for (int32_t i = 0; i < n; i++) {
            int row = config_find_topic(own[i].name);
            struct buf value = {0};
            check(row >= 0 && t->own[row]);
            topic_config_value_text(t, (enum config_row_id)row, &value);
            buf_finish(&value);
        }
        topic_config_destroy(t);
    }
    buf_finish(&why);
    config_unref(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    struct input in = {p, p + size};
    uint8_t kind = input_byte(&in);
    struct bytes rest = input_rest(&in);
    struct str text = {(const char *)rest.ptr, rest.len};
    switch (kind % 3) {
    case 0: config_file(rest); break;
    case 1: addresses(text); break;
    default: topic_settings(text); break;
    }
    return 0;
}
