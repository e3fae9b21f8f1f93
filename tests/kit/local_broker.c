#include "tests/kit/local_broker.h"

#include "base/check.h"
#include "broker/config.h"
#include "broker/server/server.h"

#include <stdio.h>

static void *serve(void *ctx)
{
    struct local_broker *b = ctx;
    struct buf why = {0};
    struct config *config = NULL;
    const struct config_input input = {.sets = b->sets, .set_count = b->set_count};
    if (config_load(&input, NULL, &why, &config) != OK) {
        fprintf(stderr, "local_broker: %s\n", buf_text(&why));
    }
    check(config);
    const struct diag diag = {
        .clock = &clock_real, .write = diag_write_stderr, .level = DIAG_ERROR};
    const struct server_options options = {.config = config, .clock = &clock_real, .diag = &diag};
    struct server *server = NULL;
    check(server_start(&options, &server) == OK);
    pthread_mutex_lock(&b->lock);
    b->server = server;
    b->port = server_port(server);
    b->is_up = true;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->lock);
    err e = server_run(server);
    server_destroy(server);
    config_unref(config);
    buf_finish(&why);
    pthread_mutex_lock(&b->lock);
    b->ended_well = e == OK;
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

void local_broker_start(struct local_broker *b, const char *dir, uint16_t port,
                        const char *const *sets)
{
    char dirs[512], listeners[64];
    int n = snprintf(dirs, sizeof dirs, "log.dirs=%s", dir);
    check(n > 0 && (size_t)n < sizeof dirs);
    snprintf(listeners, sizeof listeners, "listeners=PLAINTEXT://127.0.0.1:%d", (int)port);
    *b = (struct local_broker){
        .sets = {dirs, listeners},
          .set_count = 2
    };
    for (; sets && *sets; sets++) {
        check(b->set_count < LOCAL_SETS_MAX);
        b->sets[b->set_count++] = *sets;
    }
    check(pthread_mutex_init(&b->lock, NULL) == 0);
    check(pthread_cond_init(&b->changed, NULL) == 0);
    check(pthread_create(&b->thread, NULL, serve, b) == 0);
    pthread_mutex_lock(&b->lock);
    while (!b->is_up) { /* the settings are read by then */
        pthread_cond_wait(&b->changed, &b->lock);
    }
    pthread_mutex_unlock(&b->lock);
}

void local_broker_stop(struct local_broker *b)
{
    server_stop(b->server);
    check(pthread_join(b->thread, NULL) == 0);
    check(b->ended_well);
    pthread_mutex_destroy(&b->lock);
    pthread_cond_destroy(&b->changed);
}
