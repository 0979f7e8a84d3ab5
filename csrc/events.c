#include "events.h"

#include <stddef.h>

/* The values of CHECK in events.def. */
enum { CHECK_NEVER = false, CHECK_ALSO = true, CHECK_ONLY = true };

static const struct {
	const char *name;
	const char *description;
	enum rmf_component component;
	bool in_reference_check;
} events[RMF_NR_EVENTS] = {
#define RMF_EVENT(event, name, component, check, text) \
	[RMF_##event] = { name, text, RMF_COMPONENT_##component, CHECK_##check },
#include "events.def"
};

static const char *const components[RMF_NR_COMPONENTS] = {
#define RMF_COMPONENT(component, name) [RMF_COMPONENT_##component] = name,
#include "events.def"
};

static bool exists(enum rmf_event event)
{
	return (unsigned)event < RMF_NR_EVENTS;
}

const char *rmf_event_name(enum rmf_event event)
{
	return exists(event) ? events[event].name : NULL;
}

const char *rmf_event_description(enum rmf_event event)
{
	return exists(event) ? events[event].description : NULL;
}

enum rmf_component rmf_event_component(enum rmf_event event)
{
	return exists(event) ? events[event].component : RMF_NR_COMPONENTS;
}

bool rmf_event_in_reference_check(enum rmf_event event)
{
	return exists(event) && events[event].in_reference_check;
}

const char *rmf_component_name(enum rmf_component component)
{
	return (unsigned)component < RMF_NR_COMPONENTS ? components[component] : NULL;
}
