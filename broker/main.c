/* rivuletd: the command line around a server. */
#include "broker/args.h"
#include "broker/config.h"
#include "broker/server/server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EXIT_START = 1, EXIT_USAGE = 2, CONFIG_FILE_MAX = 1048576 };

static err read_file(const char *path, struct buf *out)
{
    FILE *f = fopen(path, "re");
    if (!f) {
        return errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
    }
    err e = OK;
    while (!e && !feof(f)) {
        if (out->len >= CONFIG_FILE_MAX) {
            e = ERR_LIMIT;
        } else if (!buf_reserve(out, 4096)) {
            e = ERR_MEMORY;
        } else {
            out->len += fread(out->ptr + out->len, 1, 4096, f);
            e = ferror(f) ? ERR_IO : OK;
        }
    }
    fclose(f);
    return e;
}

struct setup {
    struct args args;
    const struct diag *diag;
};

static err load(const struct args *a, struct config **ret_config, struct buf *why)
{
    const struct config_input input = {.file = a->file,
                                       .environment = (const char *const *)environ,
                                       .sets = a->sets,
                                       .set_count = a->set_count};
    return config_load(&input, read_file, why, ret_config);
}

static struct config *reload(void *ctx)
{
    const struct setup *setup = ctx;
    struct buf why = {0};
    struct config *config = NULL;
    if (load(&setup->args, &config, &why)) {
        char text[DIAG_QUOTED_SIZE];
        diag_log(setup->diag, DIAG_ERROR, "configuration_refused", "reason=%s",
                 diag_quote(buf_text(&why), text));
    }
    buf_finish(&why);
    return config;
}

static int print(struct buf *text)
{
    bool whole = fwrite(buf_text(text), 1, text->len, stdout) == text->len && fflush(stdout) == 0;
    buf_finish(text);
    if (!whole) {
        fprintf(stderr, "rivuletd: standard output: %s\n", strerror(errno));
    }
    return whole ? 0 : EXIT_START;
}

static int serve(struct setup *setup, struct config *config)
{
    struct server *server;
    struct diag diag = {.clock = &clock_real, .write = diag_write_stderr};
    if (diag_level_parse(str_of(config->log_level), &diag.level)) {
        diag.level = DIAG_INFO; /* the configuration was checked */
    }
    setup->diag = &diag;
    signal(SIGPIPE, SIG_IGN);
    umask(077);
    diag_log(&diag, DIAG_INFO, "starting", "version=%s", RIVULET_VERSION);
    if (config->ignored.len) {
        diag_log(&diag, DIAG_INFO, "settings_ignored",
                 "names=\"%s\" reason=\"they mean nothing to rivulet\"",
                 buf_text(&config->ignored));
    }
    const struct server_options options = {.config = config,
                                           .clock = &clock_real,
                                           .diag = &diag,
                                           .signals = true,
                                           .reload = reload,
                                           .ctx = setup};
    if (server_start(&options, &server)) {
        return EXIT_START;
    }
    err e = server_run(server);
    server_destroy(server);
    return e ? EXIT_START : 0;
}

static int run(struct setup *setup)
{
    struct buf why = {0};
    struct buf text = {0};
    struct config *config = NULL;
    if (setup->args.mode == ARGS_VERSION) {
        buf_printf(&text, "rivuletd %s\n", RIVULET_VERSION);
        return print(&text);
    }
    if (setup->args.mode == ARGS_HELP) {
        buf_printf(&text, "%s", args_help);
        return print(&text);
    }
    if (setup->args.mode == ARGS_PRINT_CONFIG_DOCS) {
        config_print_docs(&text);
        return print(&text);
    }
    if (load(&setup->args, &config, &why)) {
        fprintf(stderr, "rivuletd: %s\n", buf_text(&why));
        buf_finish(&why);
        return EXIT_USAGE;
    }
    int code = 0;
    if (setup->args.mode == ARGS_PRINT_CONFIG) {
        config_print(config, &text);
        code = print(&text);
    } else if (setup->args.mode == ARGS_CHECK_CONFIG) {
        buf_printf(&text, "the configuration is good\n");
        code = print(&text);
    } else {
        code = serve(setup, config);
    }
    config_unref(config);
    buf_finish(&why);
    return code;
}

/* With standard error closed, the first file of data would get its descriptor, and the log lines.
 */
static bool open_standard_files(void)
{
    FILE *f;
    do {
        f = fopen("/dev/null", "r+"); /* those that fill a gap stay open */
    } while (f && fileno(f) <= STDERR_FILENO);
    return f && fclose(f) == 0;
}

int main(int argc, char **argv)
{
    if (!open_standard_files()) {
        return EXIT_START;
    }
    struct setup setup = {0};
    struct buf why = {0};
    if (args_parse(argc, (const char *const *)argv, &setup.args, &why)) {
        fprintf(stderr, "rivuletd: %s\n", buf_text(&why));
        buf_finish(&why);
        return EXIT_USAGE;
    }
    int code = run(&setup);
    args_finish(&setup.args);
    buf_finish(&why);
    return code;
}
