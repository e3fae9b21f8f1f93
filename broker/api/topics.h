/* topics: what the handlers of topics and their settings share. */
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "broker/api/request.h"
#include "broker/config.h"

/* Kafka's error code for what meta/ refused or failed. */
int16_t topic_error(err e);

/* Topics that only the broker itself makes, writes and removes; a name that collides with one ('.'
 * and '_' count as one) is no better. */
bool topic_name_is_reserved(struct str name);

/* Kafka's numbers for what has settings. */
enum {
    RESOURCE_TOPIC = 2,
    RESOURCE_BROKER = 4,
    RESOURCE_BROKER_LOGGER = 8,
    RESOURCE_CLIENT_METRICS = 16,
    RESOURCE_GROUP = 32,
};

/* Kafka's numbers for where a setting's value comes from. */
enum {
    CONFIG_SOURCE_TOPIC = 1,
    CONFIG_SOURCE_BROKER = 4, /* static: file, environment, command line */
    CONFIG_SOURCE_DEFAULT = 5,
};
int8_t topic_config_source(const struct config *config, const struct topic_config *t, int row);

/* The text of a refusal, copied to where the answer can borrow it: the arena. Null when there is
 * none. */
struct str keep_text(struct request *req, struct buf *text);
struct str keep_value(
    struct request *req,
    struct buf *text); /* likewise, but empty when there is none; null: no memory */
