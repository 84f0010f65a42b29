mod json;
mod xml;
