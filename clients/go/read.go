package injector

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// read reads an answer, and refuses one that lacks a datum: encoding/json would read it as zero.
func read(text []byte, into any) error {
	if err := json.Unmarshal(text, into); err != nil {
		return err
	}
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return err
	}
	if lacking := missing(reflect.TypeOf(into).Elem(), value, "answer"); lacking != "" {
		return fmt.Errorf("%s is missing", lacking)
	}
	return nil
}

// missing names the first datum that a value lacks although its type is never null; "" if it lacks none. Pointers may be null,
// and so may slices and maps whose tag has omitempty.
func missing(kind reflect.Type, value any, at string) string {
	switch {
	case kind.Kind() == reflect.Interface || kind.Kind() == reflect.Pointer && value == nil:
		return ""
	case value == nil:
		return at
	}
	switch kind.Kind() {
	case reflect.Pointer:
		return missing(kind.Elem(), value, at)
	case reflect.Slice:
		items, _ := value.([]any)
		for i, item := range items {
			if lacking := missing(kind.Elem(), item, fmt.Sprintf("%s[%d]", at, i)); lacking != "" {
				return lacking
			}
		}
	case reflect.Map:
		items, _ := value.(map[string]any)
		for key, item := range items {
			if lacking := missing(kind.Elem(), item, at+"."+key); lacking != "" {
				return lacking
			}
		}
	case reflect.Struct:
		fields, _ := value.(map[string]any)
		for i := 0; i < kind.NumField(); i++ {
			name, options, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ",")
			if fields[name] == nil && options == "omitempty" {
				continue
			}
			if lacking := missing(kind.Field(i).Type, fields[name], at+"."+name); lacking != "" {
				return lacking
			}
		}
	}
	return ""
}
