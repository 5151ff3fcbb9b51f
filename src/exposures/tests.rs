//! Tests of what intents ask for, case by case.
