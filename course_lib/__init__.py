"""course_lib: the library of a course on diffusion models. Import what you need: `from course_lib import schedules`."""
