use super::montgomery::*;
