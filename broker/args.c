#include "broker/args.h"

#include "base/check.h"
#include "base/mem.h"

#include <string.h>

const char args_help[] =
    "rivuletd: a log broker that speaks Kafka's protocol\n"
    "\n"
    "  rivuletd [-c FILE] [--data DIR] [--listen HOST:PORT]... [--set KEY=VALUE]...\n"
    "\n"
    "  -c, --config FILE      settings, in the form of Kafka's server.properties\n"
    "      --data DIR         the data directory (log.dirs; ./data)\n"
    "      --listen HOST:PORT where to listen (listeners; 127.0.0.1 and ::1, port 9092; port 0: a "
    "free one)\n"
    "      --set KEY=VALUE    one setting; goes over the environment (RIVULET_LOG_RETENTION_MS), "
    "which goes over the file\n"
    "      --check-config     says whether the configuration is good, and ends\n"
    "      --print-config     prints every setting and where it came from, and ends\n"
    "      --print-config-docs  prints docs/CONFIG.md, and ends\n"
    "      --version, --help\n"
    "\n"
    "It runs in the foreground and logs to standard error. SIGTERM and SIGINT stop it, SIGHUP "
    "reads the configuration again.\n";

/* The value of an option: what follows '=', or the next argument. */
static err option_value(int argc, const char *const *argv, int *i, const char *name,
                        const char **ret_value, struct buf *why)
{
    const char *equals = argv[*i][1] == '-' ? strchr(argv[*i], '=') : NULL;
    if (equals) {
        *ret_value = equals + 1;
    } else if (*i + 1 < argc) {
        *ret_value = argv[++*i];
    } else {
        buf_printf(why, "%s needs a value", name);
        return ERR_INVALID;
    }
    return OK;
}

static bool is_option(const char *arg, const char *name)
{
    size_t n = strlen(name);
    return strncmp(arg, name, n) == 0 && (arg[n] == 0 || (arg[n] == '=' && name[1] == '-'));
}

/* `owned` holds texts one after the other, and moves as it grows: offsets until the end. */
static void add_set(struct args *a, size_t **offsets, const char *key, const char *value,
                    const char *tail)
{
    *offsets = mem_need_resize(*offsets, sizeof(size_t) * ((size_t)a->set_count + 1));
    (*offsets)[a->set_count++] = a->owned.len;
    buf_printf(&a->owned, "%s%s%s", key, value, tail);
    buf_add(&a->owned, "", 1);
    check(!a->owned.failed);
}

static const struct {
    const char *name;
    enum args_mode mode;
} modes[] = {
    {"--check-config",      ARGS_CHECK_CONFIG     },
    {"--print-config",      ARGS_PRINT_CONFIG     },
    {"--print-config-docs", ARGS_PRINT_CONFIG_DOCS},
    {"--version",           ARGS_VERSION          },
    {"--help",              ARGS_HELP             },
    {"-h",                  ARGS_HELP             },
};

static bool take_mode(const char *arg, struct args *a)
{
    for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
        if (strcmp(arg, modes[m].name) == 0) {
            a->mode = modes[m].mode;
            return true;
        }
    }
    return false;
}

err args_parse(int argc, const char *const *argv, struct args *ret_args, struct buf *why)
{
    struct args a = {.mode = ARGS_RUN};
    struct buf listen = {0};
    size_t *offsets = NULL;
    const char *value = NULL;
    err e = OK;
    for (int i = 1; !e && i < argc; i++) {
        const char *arg = argv[i];
        if (take_mode(arg, &a)) {
            continue;
        }
        if (is_option(arg, "-c") || is_option(arg, "--config")) {
            e = option_value(argc, argv, &i, arg, &a.file, why);
        } else if (is_option(arg, "--data")) {
            e = option_value(argc, argv, &i, arg, &value, why);
            if (!e) {
                add_set(&a, &offsets, "log.dirs=", value, "");
            }
        } else if (is_option(arg, "--listen")) {
            e = option_value(argc, argv, &i, arg, &value, why);
            if (!e) {
                buf_printf(&listen, "%sPLAINTEXT://%s", listen.len ? "," : "", value);
            }
        } else if (is_option(arg, "--set")) {
            e = option_value(argc, argv, &i, arg, &value, why);
            if (!e && !strchr(value, '=')) {
                buf_printf(why, "--set %s: it must be KEY=VALUE", value);
                e = ERR_INVALID;
            }
            if (!e) {
                add_set(&a, &offsets, "", value, "");
            }
        } else {
            buf_printf(why, "unknown argument %s; rivuletd --help lists what there is", arg);
            e = ERR_INVALID;
        }
    }
    if (!e && listen.len) {
        add_set(&a, &offsets, "listeners=", buf_text(&listen), "");
    }
    a.sets = mem_need(sizeof(char *) * ((size_t)a.set_count + 1));
    for (int i = 0; i < a.set_count; i++) {
        a.sets[i] = a.owned.ptr + offsets[i];
    }
    buf_finish(&listen);
    mem_free(offsets);
    if (e) {
        args_finish(&a);
        return e;
    }
    *ret_args = a;
    return OK;
}

void args_finish(struct args *a)
{
    mem_free(a->sets);
    buf_finish(&a->owned);
    *a = (struct args){0};
}
