/* The events that the model counts. Each has the name of what the kernel does. events.def lists
 * them; docs/model.md, section 4, defines each. */
#ifndef RMF_EVENTS_H
#define RMF_EVENTS_H

#include <stdbool.h>

enum rmf_event {
#define RMF_EVENT(event, name, component, check, text) RMF_##event,
#include "events.def"
	RMF_NR_EVENTS,
};

/* The parts of a price. */
enum rmf_component {
#define RMF_COMPONENT(component, name) RMF_COMPONENT_##component,
#include "events.def"
	RMF_NR_COMPONENTS,
};

/* The name of an event in lower case, or NULL if there is no event of that number. */
const char *rmf_event_name(enum rmf_event event);

/* What the event counts, in one line, or NULL if there is no such event. */
const char *rmf_event_description(enum rmf_event event);

/* The component that the event's cost belongs to, or RMF_NR_COMPONENTS if there is no such
 * event. */
enum rmf_component rmf_event_component(enum rmf_event event);

/* Whether folio_referenced_one() may count the event. */
bool rmf_event_in_reference_check(enum rmf_event event);

/* The name of a component, or NULL if there is no component of that number. */
const char *rmf_component_name(enum rmf_component component);

#endif
