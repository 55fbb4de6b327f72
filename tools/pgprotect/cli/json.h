/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shorthand for JSON objects, one a line.
 */
#ifndef PGP_JSON_H
#define PGP_JSON_H

#include <json-c/json.h>
#include <stdint.h>
#include <stdio.h>

static inline void json_add_string(json_object *object, const char *key,
				   const char *value)
{
	json_object_object_add(object, key, json_object_new_string(value));
}

static inline void json_add_count(json_object *object, const char *key, uint64_t value)
{
	json_object_object_add(object, key, json_object_new_uint64(value));
}

/* To the microsecond. */
static inline void json_add_seconds(json_object *object, const char *key, int64_t ns)
{
	char text[32];

	snprintf(text, sizeof(text), "%.6f", ns / 1e9);
	json_object_object_add(object, key, json_object_new_double_s(ns / 1e9, text));
}

/* Prints it on a line and frees it. */
static inline void json_print(FILE *out, json_object *object)
{
	fputs(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN |
					     JSON_C_TO_STRING_NOSLASHESCAPE), out);
	fputc('\n', out);
	json_object_put(object);
}

#endif /* PGP_JSON_H */
