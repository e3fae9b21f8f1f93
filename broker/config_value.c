#include "broker/config_value.h"

#include "base/check.h"
#include "base/mem.h"

#include <stdlib.h>

enum { VALUE_MAX_SIZE = 4096 }; /* bytes of one value, of any type */

static err set_bool(bool *field, struct str text, struct buf *why)
{
    bool yes = str_eq_ignore_case(text, STR("true"));
    if (!yes && !str_eq_ignore_case(text, STR("false"))) {
        buf_printf(why, "neither true nor false");
        return ERR_INVALID;
    }
    *field = yes;
    return OK;
}

static err set_int(const struct config_row *row, int64_t *field, struct str text, struct buf *why)
{
    int64_t number;
    err e = str_to_int64(text, &number);
    if (e == ERR_INVALID) {
        buf_printf(why, "not a whole number");
        return e;
    }
    if (e == ERR_RANGE || number < row->min || number > row->max) {
        buf_printf(why, "not within %lld and %lld%s%s", (long long)row->min, (long long)row->max,
                   *row->unit ? " " : "", row->unit);
        return ERR_INVALID;
    }
    *field = number;
    return OK;
}

static err set_real(const struct config_row *row, double *field, struct str text, struct buf *why)
{
    char copy[64];
    char *end = copy;
    if (text.len && text.len < sizeof copy) {
        memcpy(copy, text.ptr, text.len);
        copy[text.len] = 0;
        double number = strtod(copy, &end);
        if (end == copy + text.len && number >= (double)row->min && number <= (double)row->max) {
            *field = number;
            return OK;
        }
    }
    buf_printf(why, "not a number within %lld and %lld", (long long)row->min, (long long)row->max);
    return ERR_INVALID;
}

static bool is_word(const char *words, struct str word)
{
    while (word.len && words) {
        const char *bar = strchr(words, '|');
        struct str known = {.ptr = words, .len = bar ? (size_t)(bar - words) : strlen(words)};
        if (str_eq(known, word)) {
            return true;
        }
        words = bar ? bar + 1 : NULL;
    }
    return false;
}

/* A list is kept as "a,b" without spaces. */
static bool clean_list(const struct config_row *row, struct str text, char *out)
{
    size_t n = 0;
    while (text.len) {
        const char *comma = memchr(text.ptr, ',', text.len);
        struct str word = {.ptr = text.ptr, .len = comma ? (size_t)(comma - text.ptr) : text.len};
        text.ptr += comma ? word.len + 1 : word.len;
        text.len -= comma ? word.len + 1 : word.len;
        while (word.len && word.ptr[0] == ' ') {
            word.ptr++;
            word.len--;
        }
        while (word.len && word.ptr[word.len - 1] == ' ') {
            word.len--;
        }
        if (!is_word(row->words, word) || (comma && !text.len)) {
            return false;
        }
        if (n) {
            out[n++] = ',';
        }
        memcpy(out + n, word.ptr, word.len);
        n += word.len;
    }
    out[n] = 0;
    return true;
}

static err set_text(const struct config_row *row, char **field, struct str text, struct buf *why)
{
    char *copy = mem_need_zero(1, text.len + 1);
    if (text.len) {
        memcpy(copy, text.ptr, text.len);
    }
    bool good = row->type == CONFIG_WORD   ? is_word(row->words, text)
                : row->type == CONFIG_LIST ? clean_list(row, text, copy)
                                           : !row->rule || row->rule(text, why);
    if (!good) {
        if (row->words) {
            buf_printf(why, "not %s%s", row->type == CONFIG_LIST ? "a list of " : "one of ",
                       row->words);
        }
        mem_free(copy);
        return ERR_INVALID;
    }
    mem_free(*field);
    *field = copy;
    return OK;
}

err config_value_set(const struct config_row *row, void *field, struct str text, struct buf *why)
{
    if (text.len > VALUE_MAX_SIZE) {
        buf_printf(why, "longer than %d bytes", VALUE_MAX_SIZE);
        return ERR_INVALID;
    }
    switch (row->type) {
    case CONFIG_BOOL: return set_bool(field, text, why);
    case CONFIG_INT:
    case CONFIG_LONG: return set_int(row, field, text, why);
    case CONFIG_REAL: return set_real(row, field, text, why);
    case CONFIG_WORD:
    case CONFIG_LIST:
    case CONFIG_TEXT: return set_text(row, field, text, why);
    }
    check(false);
}

static bool is_text(const struct config_row *row)
{
    return row->type == CONFIG_WORD || row->type == CONFIG_LIST || row->type == CONFIG_TEXT;
}

void config_value_default(const struct config_row *row, void *field)
{
    if (is_text(row)) {
        *(char **)field = mem_need_dup(row->def_text, strlen(row->def_text) + 1);
    } else if (row->type == CONFIG_BOOL) {
        *(bool *)field = row->def_number != 0;
    } else if (row->type == CONFIG_REAL) {
        *(double *)field = row->def_real;
    } else {
        *(int64_t *)field = row->def_number;
    }
}

void config_value_copy(const struct config_row *row, void *to, const void *from)
{
    if (is_text(row)) {
        const char *text = *(char *const *)from;
        *(char **)to = mem_need_dup(text, strlen(text) + 1);
    } else if (row->type == CONFIG_BOOL) {
        *(bool *)to = *(const bool *)from;
    } else if (row->type == CONFIG_REAL) {
        *(double *)to = *(const double *)from;
    } else {
        *(int64_t *)to = *(const int64_t *)from;
    }
}

void config_value_free(const struct config_row *row, void *field)
{
    if (is_text(row)) {
        mem_free(*(char **)field);
    }
}

void config_value_print(const struct config_row *row, const void *field, struct buf *out)
{
    if (is_text(row)) {
        buf_add_str(out, str_of(*(char *const *)field));
    } else if (row->type == CONFIG_BOOL) {
        buf_printf(out, "%s", *(const bool *)field ? "true" : "false");
    } else if (row->type == CONFIG_REAL) {
        buf_printf(out, "%g", *(const double *)field);
    } else {
        buf_printf(out, "%lld", (long long)*(const int64_t *)field);
    }
}

/* ---- rules of texts */

bool config_check_path(struct str value, struct buf *why)
{
    if (!value.len || memchr(value.ptr, ',', value.len)) {
        buf_printf(why, value.len ? "one directory, not a list" : "empty");
        return false;
    }
    return true;
}

bool config_check_level(struct str value, struct buf *why)
{
    enum diag_level level;
    if (diag_level_parse(value, &level) != OK) {
        buf_printf(why, "not one of debug, info, warn, error");
        return false;
    }
    return true;
}

bool config_check_listeners(struct str value, struct buf *why)
{
    struct config_endpoint endpoints[CONFIG_ENDPOINTS_MAX];
    int count;
    return !value.len || config_parse_endpoints(value, endpoints, &count, why) == OK;
}

/* What clients are told must be an address that they can dial. */
bool config_check_advertised(struct str value, struct buf *why)
{
    struct config_endpoint endpoints[CONFIG_ENDPOINTS_MAX];
    int count = 0;
    if (value.len && config_parse_endpoints(value, endpoints, &count, why) != OK) {
        return false;
    }
    for (int i = 0; i < count; i++) {
        const char *host = endpoints[i].host;
        if (!*host || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0) {
            buf_printf(why, "'%s' is no address that a client can dial", host);
            return false;
        }
    }
    return true;
}

/* The name before "://", taken off the text; null where there is none. */
static struct str take_listener_name(struct str *text)
{
    for (size_t i = 0; i + 2 < text->len; i++) {
        if (memcmp(text->ptr + i, "://", 3) == 0) {
            struct str name = {.ptr = text->ptr, .len = i};
            text->ptr += i + 3;
            text->len -= i + 3;
            return name;
        }
    }
    return (struct str){0};
}

/* HOST:PORT; HOST may be [v6], empty, a name or an address. */
static err parse_endpoint(struct str text, struct config_endpoint *endpoint, struct buf *why)
{
    size_t colon = text.len;
    while (colon > 0 && text.ptr[colon - 1] != ':') {
        colon--;
    }
    int64_t port;
    if (colon == 0 ||
        str_to_int64((struct str){.ptr = text.ptr + colon, .len = text.len - colon}, &port) != OK ||
        port < 0 || port > 65535) {
        buf_printf(why, "'%.*s' is not HOST:PORT", STR_ARG(text));
        return ERR_INVALID;
    }
    struct str host = {.ptr = text.ptr, .len = colon - 1};
    bool bracketed = host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']';
    if (bracketed) {
        host.ptr++;
        host.len -= 2;
    } else if (memchr(host.ptr, ':', host.len)) {
        buf_printf(why, "an IPv6 address stands in brackets: [%.*s]:%d", STR_ARG(host), (int)port);
        return ERR_INVALID;
    }
    if (host.len >= sizeof endpoint->host || memchr(host.ptr, ' ', host.len)) {
        buf_printf(why, "'%.*s' is not a host", STR_ARG(host));
        return ERR_INVALID;
    }
    *endpoint = (struct config_endpoint){.port = (uint16_t)port};
    memcpy(endpoint->host, host.ptr, host.len);
    return OK;
}

err config_parse_endpoints(struct str text, struct config_endpoint endpoints[CONFIG_ENDPOINTS_MAX],
                           int *ret_count, struct buf *why)
{
    int count = 0;
    while (text.len) {
        const char *comma = memchr(text.ptr, ',', text.len);
        size_t len = comma ? (size_t)(comma - text.ptr) : text.len;
        struct str one = config_trim((struct str){.ptr = text.ptr, .len = len});
        text.ptr += comma ? len + 1 : len;
        text.len -= comma ? len + 1 : len;
        struct str name = take_listener_name(&one);
        if (name.ptr && str_eq_ignore_case(name, STR("CONTROLLER"))) {
            continue; /* Kafka's stock file has it; nothing here would listen on it */
        }
        if (name.ptr && !str_eq_ignore_case(name, STR("PLAINTEXT"))) {
            buf_printf(why, "'%.*s' is not PLAINTEXT, the one protocol there is", STR_ARG(name));
            return ERR_INVALID;
        }
        if (count == CONFIG_ENDPOINTS_MAX) {
            buf_printf(why, "more than %d addresses", CONFIG_ENDPOINTS_MAX);
            return ERR_LIMIT;
        }
        err e = parse_endpoint(one, &endpoints[count], why);
        if (e != OK) {
            return e;
        }
        count++;
    }
    *ret_count = count;
    return OK;
}
