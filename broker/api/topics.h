/* topics: what the handlers of topics and their settings share. */
#pragma once

#include "base/err.h"
#include "base/str.h"

/* Kafka's error code for what meta/ refused or failed. */
int16_t topic_error(err e);

/* Topics that only the broker itself makes, writes and removes. */
bool topic_name_is_reserved(struct str name);
